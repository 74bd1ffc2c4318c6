"""What a sentence begins or ends with that answers: "the answer is", "I choose", "it is", "is correct"."""

import re

from mm_adapter.eval import answer_languages

_ADJECTIVES = (
    r"(?:(?:final|corrected|revised|updated|actual|official|expected|reference|gold|correct|right|best|only|single|proper|appropriate|true|chosen|selected|predicted|likely|suitable|"
    r"accurate|most (?:likely|appropriate|suitable|accurate|fitting|reasonable)|probable)(?: and |, | ))*"
)
_NOUN = r"(?:answer|choice|option|response|solution|selection|conclusion|letter|result)(?: (?:choice|option|letter))?"
# "The right ball" stands on the right.
_SAYING = (
    r"(?:word|term|name|description|label|match|figure of speech|statement|sentence|phrase|explanation|definition|title"
    r"|category|classification|number|value|one)"
)
_ADVERBS = (
    r"(?:,? ?(?:clearly|probably|likely|most likely|definitely|therefore|thus|then|indeed|simply|actually|hence|"
    r"obviously|certainly|surely|that|going to be)\b,?)*"
)
_IS = rf"(?:(?: is| would be| will be| must be| should be| has to be|'s){_ADVERBS}\s*(?:[:=]|[-–—](?=\s)|\.\.+|…)?\s*)"
_SIGN = r"(?:\s*(?:[:=→]|[-=]+>|\s[-–—]\s)\s*)"
ANSWER_IS = re.compile(
    rf"(?<![A-Za-z])(?:(?:the|my|our|this) )?(?P<kind>{_ADJECTIVES}){_NOUN}"
    rf"(?: \([^()\n]{{1,20}}\))?(?: (?:to|for|of|here)\b[^.!?;:,\n]{{0,80}}?)?(?:{_IS}|{_SIGN}|(?<=\b)\n)"
    rf"|(?<![A-Za-z])ans(?:\.|wer)?{_SIGN}|(?<![A-Za-z])ans\. "
    r"|(?<![A-Za-z])(?:correct|selected|chosen|predicted|prediction|actual|expected|reference|gold|label"
    rf"|ground[- ]truth){_SIGN}"
    rf"|(?<![A-Za-z])(?:the )?(?:correct (?:[\w'-]+ ){{1,8}}?|(?:right|best) {_SAYING} (?:[\w'-]+ ){{0,6}}?)"
    rf"(?:is|would be|:){_ADVERBS}:? "
    rf"|(?<![A-Za-z])the one {_IS}"
    rf"|(?:(?<![A-Za-z]))(?:{answer_languages.ANSWER_IS})",
    re.IGNORECASE,
)
FINAL = re.compile(r"\b(?:final|corrected|revised|updated)\b", re.IGNORECASE)
I_CHOOSE = re.compile(
    r"(?<![A-Za-z])(?:(?:i|we)(?:'d|'ll|'m| would| will| must| have to| can| am| are| have)?"
    r"(?: also| therefore| confidently| finally| now| definitely| going to)*"
    r" (?:choose|chose|chosen|choosing|pick(?:ed)?|select(?:ed)?|go(?:ing)? (?:with|for)|went with|opt(?:ed)? for"
    r"|answer|say|vote for|settle (?:on|for)|conclude|think|believe|guess)"
    r"|(?:let's )?(?:go with|choose|pick|select)|going with)"
    r"(?: that)?(?: it is| it's| it must be| it would be)?(?: the)?:? ",
    re.IGNORECASE,
)
IT_IS = re.compile(
    r"(?<![A-Za-z])(?:it|this|that|these|those|they)(?: is| are|'s|'re| must be| has to be| would be| will be)"
    rf"{_ADVERBS}(?: called| an example of| a case of)?:? "
    r"|(?<![A-Za-z])(?:(?:that|this|which|it)(?: only)? leaves(?: us| me)?|(?:we|i)(?: are|'re|'m| am) left)(?: with)?"
    r"(?: only| just)?(?: the)? ",
    re.IGNORECASE,
)
SO = re.compile(r"(?<![A-Za-z])(?:so|thus|therefore|hence|by (?:process of )?elimination)[,:]? ", re.IGNORECASE)
IS_CORRECT = re.compile(
    rf"(?: is| seems| looks| must be| has to be| appears to be| would be){_ADVERBS} "
    rf"(?:(?:the|my|our) {_ADJECTIVES}(?:answer|choice|option|one|response)|correct|right|the correct|the best)"
    r"(?: here| (?:to|for|in) [^.!?;,\n]{0,60}?)?(?=[.!;,]|\s*\n|\s*$| because\b| since\b| as\b)"
    rf"|(?:{answer_languages.IS_CORRECT})(?=[.!;,]|\s*\n|\s*$)",
    re.IGNORECASE,
)
