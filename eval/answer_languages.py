"""How answers are said in languages other than English: pieces of expressions, to be read without letter case."""

ANSWER_IS = (
    r"die (?:richtige |korrekte |endgültige )?(?:antwort|lösung) (?:ist|lautet):? ?|richtig ist:? |"
    r"(?:richtige |korrekte |endgültige )?(?:antwort|lösung) ?: ?|"
    r"la (?:bonne )?réponse(?: correcte| finale)? est:? ?(?:la )?|réponse(?: correcte| finale)? ?: ?|"
    r"la respuesta(?: correcta| final)? es:? ?(?:la )?|respuesta(?: correcta| final)? ?: ?|"
    r"la risposta(?: corretta| giusta)? è:? ?|risposta(?: corretta)? ?: ?|"
    r"a resposta(?: correta| final| certa)? é:? ?|resposta(?: correta)? ?: ?|"
    r"(?<![а-яё])(?:правильный |верный )?ответ(?:\s*[:—–]|\s+-|\s+это)\s*|"
    r"정답(?:은|\s*:)\s*|"
    r"(?:正确|最终)?答案(?:应该|应)?(?:是|为)?\s*:?\s*|正确的?选项(?:是|为)\s*:?\s*|(?:因此|所以)?,?(?:应该|故)?(?<!不)(?<!不能)(?<!不要)(?<!不应)(?<!不应该)(?<!不该)(?<![候备備多入正])(?<!不会)"
    r"(?<![别別])选择?\s*:?\s*|正解(?:は|\s*:)\s*|答え(?:は|\s*:)\s*|选项\s*:?\s*|答\s*:\s*"
)
"""Stands before an answer, as "the answer is" does."""

IS_CORRECT = (
    r" ist(?: die)? (?:richtig|korrekt)(?:e (?:antwort|lösung|option))?|が(?:正しい|正解)(?:です|だ)?"
    r"|(?<!不)是正确(?:的|答案|的答案)|(?<=[A-Z])正确"
)
"""Stands behind an answer, as "is correct" does."""

SENTENCE_ENDS = r"\s*(?:です|である|だ|입니다|이다)(?=[\s.!]|$)"
"""Stands between an answer and the end of its sentence."""

CONDITIONS = r"\b(?:wenn|falls|sofern|angenommen|si|se|если)\b|如果|假如|假设|假設|要是|もし|なら|만약"

SPEAKERS = (
    r"\b(?:sagte?|meinte?|behauptete?|denkt|glaubt|говорит|говорят|сказала?|считает|dit|dice|diz)"
    r"(?:,? (?:que|che|что))?\W*$"
)
"""Ends what stands before somebody else's answer."""

NO_ANSWER_BEFORE = (
    r"(?:[不没沒](?:太|大)?(?:认为|觉得|相信|同意|可能|确定)|怀疑|如果|假如|假设|要是|若|もし|错|誤|误|不正|干扰|間違|也许|可能|大概|好像|或许|たぶん|多分|恐らく|おそらく|为什么|先|备选|候选|"
    r"[他她彼]|友達|有人|学生|同学|大家|人们|多数|许多|很多|小[明红华])[^,;]*$|不$|(?<!最)[后後]$"
)
"""In Chinese and Japanese, where words stand side by side: before an answer that is none."""

SECOND_THOUGHTS = (
    r"但|不过|或|和|还是|也|または|あるいは|それとも|かも|또는|(?:или|и|oder|und|eventuell|vielleicht|ou|et|e)\b"
)
"""What adds a second answer or puts the first in doubt, right behind it."""

TENTATIVE = r"vielleicht|eventuell|nicht sicher|возможно|наверное|peut-être|quizás?|tal vez|talvez|forse"

CORRECTIONS = r"(?:いや|いえ|違う|违う|不对|错了|等等|等一下|(?:nein|нет|non)\b)"
"""Begins a sentence that takes back what stands before it."""

WRONG = (
    r"falsch|неверно|неправильно|fals[oa]|incorrect[ao]|fausse?|sbagliat[oa]|errad[oa]|(?:这|那)?是?(?:错误?|錯誤?)的?"
    r"|不对|不正确|間違い(?:です)?|違います|틀렸습니다"
)
"""Calls what stands before it wrong: "B (falsch)"."""

VERDICTS = (
    r"(?:nein|ja|нет|да|non|oui|falsch|richtig|nicht|неверно|неправильно|верно|faux|incorrecte?|incorrect[ao]|falso|falsa|sbagliat[oa]|errad[oa])\b"
    r"|[错錯误誤对對]|不[对正對]|正[确しい解]|間違|まちがい|틀"
)
"""Begins what speaks about an option and chooses none."""
