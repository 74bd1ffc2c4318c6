"""What is given as --data is recognised, or refused with what would have been right."""

import pytest
from scienceqa_records import problem

from mm_adapter.core.errors import UserError
from mm_adapter.data.readers import read_dataset


def test_official_folder_is_recognised(make_folder):
    assert len(read_dataset(str(make_folder())).questions) == 4


def test_options_reach_the_reader(make_folder):
    folder = str(make_folder({"1": problem(answer=9), "2": problem(image="image.png")}, {"train": ["1", "2"]}))
    assert list(read_dataset(folder, skip_bad=True).bad) == ["1"]
    assert list(read_dataset(folder, skip_bad=True, check_images=True).bad) == ["1", "2"]


def test_folder_with_only_the_split_file_misses_the_questions(make_folder):
    folder = make_folder()
    (folder / "problems.json").unlink()
    with pytest.raises(UserError, match=r"problems\.json: .* does not exist"):
        read_dataset(str(folder))


def test_what_exists_but_holds_no_questions_is_refused(tmp_path, make_folder):
    with pytest.raises(UserError, match=r"no table and no problems\.json"):
        read_dataset(str(tmp_path))
    with pytest.raises(UserError, match="give the folder that holds it"):
        read_dataset(str(make_folder() / "problems.json"))


@pytest.mark.parametrize("source", ["", "nowhere", "/no/where", "./a/b", "../a", "a\0b/c", "x" * 5000, "a/b/c"])
def test_what_does_not_exist_is_refused_without_asking_the_hub(source):
    with pytest.raises(UserError, match="does not exist"):
        read_dataset(source)
