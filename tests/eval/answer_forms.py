"""Answers as models write them to one question, of which B is the answer, and texts that answer nothing."""

OPTIONS = ("chiasmus", "apostrophe", "simile")


def _forms(packed: str) -> list[str]:
    return [form.strip().replace("⏎", "\n") for line in packed.strip().splitlines() for form in line.split("¦")]


# One form between bars; ⏎ is a line end. What a person says was fixed when the form was written.
NAMES_B = _forms(
    r"""
B</s> ¦ Answer:⏎B ¦ **Answer:**⏎⏎**B** ¦ The answer is (B) apostrophe.
The correct answer is **B) apostrophe**. ¦ The answer is B: apostrophe ¦ The correct answer is option B.
Option B ¦ \boxed{B} ¦ The final answer is $\boxed{B}$. ¦ ANSWER: $B$ ¦ ### Answer: B ¦ <answer>B</answer> ¦ `B`
*B* ¦ "B" ¦ [B] ¦ B. ¦ B) ¦ (B) ¦ b ¦ b. ¦ (b) ¦ B: ¦ B, ¦ 'B' ¦ “B” ¦ Ｂ ¦ （Ｂ） ¦ Ⓑ ¦ {B} ¦ <B> ¦ B!
B. apostrophe ¦ B) apostrophe ¦ (B) apostrophe ¦ [B] apostrophe ¦ B: apostrophe ¦ B - apostrophe
B – apostrophe ¦ B, apostrophe ¦ B apostrophe ¦ apostrophe (B) ¦ apostrophe, option B ¦ Apostrophe ¦ apostrophe!
an apostrophe ¦ An apostrophe. ¦ The apostrophe ¦ "apostrophe" ¦ **apostrophe** ¦ Option B: apostrophe
Option (B) ¦ Option B. ¦ Choice B ¦ Choice: B ¦ Option: B ¦ letter B ¦ The letter is B ¦ Answer B ¦ Answer - B
Answer = B ¦ Answer → B ¦ Answer -> B ¦ Ans: B ¦ Ans. B ¦ Final answer: B ¦ Final Answer⏎B ¦ **Final Answer**⏎⏎B
Correct answer: B ¦ Correct Answer: (B) apostrophe ¦ Correct option: B ¦ The correct option is (B)
The correct option is (B). ¦ The right choice is B ¦ The best answer is B because it fits.
The answer would be B. ¦ The answer must be B. ¦ The answer should be B ¦ the answer is b ¦ So the answer is B.
So, the answer is B. ¦ Thus, the correct answer is B. ¦ Therefore, the answer is option (B).
Hence the answer is **B**. ¦ I choose B ¦ I choose B. ¦ I would choose option B. ¦ I'd go with B.
I'll go with (B). ¦ My answer is B ¦ My answer: B ¦ I pick B ¦ I select option B. ¦ I think B ¦ I think it's B.
I think the answer is B. ¦ I believe the correct answer is B. ¦ So it's B ¦ It's B. ¦ It is B ¦ It is (B).
It's apostrophe. ¦ It is an apostrophe. ¦ This is an apostrophe. ¦ It's option B ¦ B is correct
B is the correct answer. ¦ B is the answer ¦ B is right. ¦ Option B is correct. ¦ (B) is the correct answer.
(B) apostrophe is the correct answer. ¦ Apostrophe is the correct answer. ¦ The correct answer is apostrophe.
The answer: B ¦ The answer is: B ¦ The answer is:⏎B ¦ The answer is:⏎⏎(B) apostrophe ¦ The answer is "B".
The answer is 'B'. ¦ The answer is `B`. ¦ The answer is <b>B</b>. ¦ The answer is B, apostrophe.
The answer is B - apostrophe. ¦ The answer is B. apostrophe ¦ The answer is B. Apostrophe.
The answer is B) apostrophe ¦ The answer is B (apostrophe). ¦ The answer is apostrophe (B).
The answer is option B, apostrophe. ¦ The answer is option B: apostrophe, because it speaks to someone absent.
Based on the picture, the answer is B. ¦ Since it speaks to someone, the answer is B.
Since it does not compare, the answer is B. ¦ Because it could not be A, the answer is B.
Looking at the text, the correct answer is (B) apostrophe. ¦ Sure! The answer is B. ¦ Sure, here is my answer: B
Great question. The answer is B. ¦ A is wrong because nothing is reversed, so the answer is B.
It is not a simile, so the answer is B. ¦ A and C are wrong. The answer is B. ¦ The answer is B, not A.
The answer is B. Not A. ¦ The answer is B rather than A. ¦ The answer is B because A is wrong.
The answer is A. Wait, no: the answer is B. ¦ The answer is A. Wait, that is wrong. The answer is B.
The answer is A. No, wait, the answer is B. ¦ The answer is A. Actually, the answer is B.
The answer is A. Sorry, I made a mistake. The correct answer is B.
First I thought the answer is A. But the answer is B. ¦ B⏎It speaks to someone absent.
B.⏎It speaks to someone absent. ¦ B. It speaks to someone absent. ¦ B) It speaks to someone absent.
(B) It speaks to someone absent. ¦ B. apostrophe⏎It speaks to someone absent.
B. apostrophe. It speaks to someone absent. ¦ B) apostrophe because it speaks to someone absent.
B because it speaks to someone absent. ¦ B, because it speaks to someone absent.
B - it speaks to someone absent. ¦ Apostrophe, because it speaks to someone. ¦ Apostrophe. It speaks to someone.
apostrophe⏎⏎It speaks to someone. ¦ It speaks to someone absent.⏎B
It speaks to someone absent.⏎⏎(B) apostrophe ¦ It speaks to someone absent. So the answer is B
It speaks to someone absent.⏎Answer: B ¦ Explanation: it speaks to someone.⏎Answer: B
Answer: B⏎Explanation: it speaks to someone. ¦ <think>Maybe A. The answer is A.</think>B
<think>⏎A?⏎</think>⏎⏎The answer is B. ¦ maybe A</think>B ¦ <thinking>A</thinking><answer>B</answer>
<reasoning>A</reasoning>⏎B ¦ <reflection>The answer is A</reflection>The answer is B ¦ {"answer": "B"}
{"answer": "B", "reason": "it is not A"} ¦ ```json⏎{"answer": "B"}⏎``` ¦ {'answer': 'B'}
{"choice": "apostrophe"} ¦ {"explanation": "x", "final_answer": "B. apostrophe"} ¦ ["B"] ¦ B<|im_end|>
B<|eot_id|> ¦ B<|endoftext|> ¦ B<end_of_turn> ¦ <s>B</s> ¦ <|im_start|>assistant⏎B<|im_end|> ¦ Assistant: B
ASSISTANT: B ¦ ### Response:⏎B ¦ ### Assistant: The answer is B. ¦ \text{B} ¦ \textbf{B} ¦ $\text{B}$
\boxed{\text{B}} ¦ \boxed{B. apostrophe} ¦ \boxed{\text{(B) apostrophe}} ¦ $$\boxed{B}$$ ¦ \(B\)
\[ \boxed{B} \] ¦ The answer is $B$. ¦ <answer> (B) </answer> ¦ <answer>B. apostrophe</answer>
<answer>apostrophe</answer> ¦ <think>x</think>⏎<answer>B ¦ B⏎⏎USER: next? ¦ B<|im_end|>⏎<|im_start|>user⏎C?
- B ¦ * B ¦ > B ¦ # B ¦ 1 ¦ Die Antwort ist B. ¦ Antwort: B ¦ Die richtige Antwort ist (B). ¦ La réponse est B.
La respuesta correcta es B. ¦ Respuesta: B ¦ A resposta correta é B. ¦ La risposta è B. ¦ 答案是B。 ¦ 答案：B
正确答案是B
The answer is B.BECAUSE: it is. ¦ The answer is B. BECAUSE: A is another figure.
The figure of speech used is apostrophe. ¦ The figure of speech used in this text is an apostrophe. ¦ B⏎B⏎B
B. B. B. ¦ <b>B</b> ¦ <p>B</p> ¦ B<br> ¦ __B__ ¦ _B_ ¦ ***B*** ¦ ~~A~~ B ¦ The answer is definitely B.
The answer is probably B. ¦ The correct letter is B. ¦ The answer to the question is B.
The answer to this question is (B). ¦ The correct figure of speech is apostrophe. ¦ The correct one is B.
Answer (B) ¦ Answer: (B) ¦ Answer: [B] ¦ Answer: **B. apostrophe** ¦ The answer is B - it speaks to someone.
The answer is B, it speaks to someone. ¦ Let's go with B. ¦ We can conclude that the answer is B.
It is clear that the answer is B. ¦ This means the answer is B. ¦ Yes, the answer is B.
The answer is the letter B. ¦ The correct choice is: **(B) apostrophe** ¦ It can't be A or C, so it's B.
<CONCLUSION>B</CONCLUSION> ¦ <SUMMARY>A</SUMMARY><CONCLUSION>The answer is B</CONCLUSION>
Final answer: (B) apostrophe. ¦ The answer is B as shown in the text. ¦ The answer is B for that reason.
Correct: B ¦ Of the three options, B is correct. ¦ B.) apostrophe ¦ (B). apostrophe ¦ B: It speaks to someone.
The best choice is therefore B. ¦ Therefore: B ¦ So: B ¦ Thus, B. ¦ So B. ¦ Therefore, B is the correct answer.
Therefore (B). ¦ B it is ¦ Definitely B ¦ Probably B. ¦ B, I think. ¦ I'm going with B ¦ The answer has to be B.
Solution: B ¦ Selected option: B ¦ The text speaks to someone, so B. ¦ Hence, B ¦ **B** is the correct answer.
The correct answer is: B. apostrophe - it speaks. ¦ I am confident the answer is B.
In conclusion, B is the best answer. ¦ After looking at it, I would say B. ¦ B = apostrophe
Option B (apostrophe) ¦ B (apostrophe) ¦ (B) - apostrophe ¦ Answer: Option B ¦ Answer: option (B) apostrophe
Answer is B ¦ answer b ¦ ANSWER: B ¦ the correct answer is b) apostrophe ¦ The answer is B⏎⏎The answer is B
The answer is B.⏎⏎A is wrong because it reverses. C is wrong.
Let's see. A is a reversal. B speaks to someone. C compares. So B.
A: reversal⏎B: speaks to someone⏎C: compares⏎⏎B is right. ¦ The answer is B.⏎Question: x⏎The answer is A.
My first guess was A, but the answer is B. ¦ I initially chose A but the correct answer is B.
Not A. The answer is B. ¦ The answer is B!! ¦ the answer is B.</s><s> ¦ The answer is B<think> ¦ B<think>but A?
<thinking>A</thinking>⏎⏎**B** ¦ [THINK]A[/THINK]B ¦ ◁think▷A◁/think▷B
<|begin_of_thought|>A<|end_of_thought|><|begin_of_solution|>B<|end_of_solution|>
<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>final<|message|>B<|return|>
The picture shows A. B is the answer. ¦ B is the best answer, although A is close.
Both A and B are figures of speech, but the answer is B. ¦ It's A... no, it's B.
The answer is B, since A reverses parts. ¦ A. This is a chiasmus? No. The answer is B. ¦ Choose B. ¦ Select B
B.⏎ ¦ The answer is:B ¦ Answer:B ¦ answer:(B) ¦ Answer : B ¦ {"answer": "B", "confidence": 0.9}
{"reasoning": "A is wrong", "answer": "(B)"} ¦ Correct answer⏎B ¦ The answer is ... B ¦ The answer is … B
The answer is __B__. ¦ The answer is _B_ ¦ The answer is <B> ¦ The answer is [B]. ¦ The answer is {B}.
The answer is ‘B’. ¦ *Answer*: *B* ¦ <p>The answer is <strong>B</strong></p>
Answer: B.⏎⏎Explanation: A is a chiasmus; C is a simile. ¦ **B. apostrophe**⏎⏎*Explanation*: An apostrophe is...
**Correct answer: B. apostrophe**⏎⏎Why: it speaks⏎⏎- A. chiasmus is wrong⏎- C. simile is wrong
B. apostrophe⏎⏎A. chiasmus is wrong because⏎C. simile is wrong because
Based on the given information, the figure of speech is **apostrophe**.
The correct answer is B, because A is not right.
To find the answer, look at the text. It speaks to someone. Therefore the answer is B. ¦ Final Answer: \boxed{B}
Final Answer: B⏎Confidence: 90% ¦ Answer: B (90% sure) ¦ B (90%) ¦ B: 90% ¦ The answer is A.⏎⏎Final answer: B
Answer: A⏎⏎Corrected answer: B ¦ The answer is A. Correction: the answer is B.
The answer is A. Hmm, let me reconsider. The answer is B.
The answer is B. Let me double-check. Yes, the answer is B.
B is the correct option. ¦ The correct answer is choice B. ¦ The correct choice is option B. ¦ My choice is B.
I would say B. ¦ I'd say B ¦ I believe B is correct. ¦ I think B is the answer. ¦ I think option B is correct.
Answer: Option (B) apostrophe ¦ Answer is (B). ¦ The right answer is (B): apostrophe ¦ B) apostrophe.
b) apostrophe ¦ b. apostrophe ¦ (b) apostrophe ¦ **B) apostrophe** ¦ **Answer: B** ¦ **Answer: (B) apostrophe**
*Answer:* B ¦ Answer: __B__ ¦ ***Answer:*** ***B*** ¦ __Answer__: B ¦ Answer: `B` ¦ Answer: "B"
Answer: "apostrophe" ¦ The answer is "apostrophe". ¦ The answer is **apostrophe**.
The correct option is B: apostrophe. ¦ Correct option: (B) ¦ The correct answer is B) apostrophe.
The correct answer is B). apostrophe ¦ The correct answer is (B), apostrophe.
The correct answer is (B) - apostrophe. ¦ The correct answer is (B) because it addresses someone absent.
The answer is (B).⏎⏎Because it addresses someone absent, A and C are wrong. ¦ B.⏎⏎The text uses apostrophe
Sure! B ¦ Sure, the answer is (B). ¦ Okay, the answer is B ¦ Certainly! The correct answer is B.
Certainly! The correct answer is:⏎⏎**B. apostrophe**
The correct answer is:⏎⏎**B. apostrophe**⏎⏎Explanation: ... ¦ The figure of speech is apostrophe.
This is an example of apostrophe. ¦ It's an example of an apostrophe. ¦ This sentence uses apostrophe.
The text uses an apostrophe. ¦ The answer would be (B) apostrophe ¦ The answer should be: B ¦ I'll choose B
I will go with B. ¦ I select (B). ¦ I pick: B ¦ My final answer is B. ¦ My final answer: (B)
Final answer: **B** ¦ FINAL ANSWER: B ¦ Final Answer: $\boxed{B}$ ¦ \boxed{B}. ¦ $\boxed{B}$
$$\boxed{\text{B}}$$ ¦ \[\boxed{B}\] ¦ \boxed{(B)} ¦ \boxed{\mathbf{B}} ¦ \boxed{\textbf{(B) apostrophe}}
\boxed{apostrophe} ¦ \mathrm{B} ¦ <answer>⏎B⏎</answer> ¦ <ANSWER>B</ANSWER> ¦ <answer>(B)</answer>.
<Answer>B.</Answer> ¦ Answer: <B> ¦ [[B]] ¦ ((B)) ¦ {{B}} ¦ [Answer]: B ¦ [Answer] B ¦ Response: B ¦ Output: B
Result: B ¦ The result is B ¦ => B ¦ -> B ¦ → B ¦ ✓ B ¦ ✅ B ¦ B ✓ ¦ 👉 B ¦ option b ¦ OPTION B ¦ Letter: B
choice (b) ¦ Choice (B): apostrophe ¦ The answer is: **B**. ¦ The answer is : B ¦ The answer is- B
the answer is:b ¦ The answer is  B . ¦ The answer is B , ¦ Answer: B) ¦ Answer: (B ¦ Answer B. ¦ Ans:(B)
ans = B ¦ B, apostrophe. ¦ B; apostrophe ¦ B/apostrophe ¦ B | apostrophe ¦ B⏎apostrophe ¦ apostrophe B
apostrophe, B ¦ apostrophe. B ¦ apostrophe⏎B ¦ apostrophe: B ¦ B=apostrophe ¦ Option B - apostrophe
Option B) apostrophe ¦ Option B, apostrophe, is correct. ¦ The answer is clearly B ¦ Clearly, the answer is B.
Obviously B ¦ So the answer is (B) ¦ Thus B ¦ Hence the answer: B ¦ ∴ B ¦ Therefore, option B is correct.
Therefore, the correct option is B. ¦ In this case, the answer is B.
In the picture, someone is spoken to. The answer is B. ¦ Given the context, the best answer is B. apostrophe.
The best option is B. ¦ The most likely answer is B. ¦ The most appropriate answer is (B) apostrophe.
The correct statement is B. ¦ The correct term is apostrophe. ¦ The correct word is B ¦ Only B is correct.
It is B) apostrophe. ¦ It is option B ¦ That would be B. ¦ That is B. ¦ This is B ¦ It would be B.
It must be B ¦ Answer:B.apostrophe ¦ B.apostrophe ¦ (B)apostrophe ¦ B)apostrophe ¦ B:apostrophe
The answer is B.apostrophe ¦ The answer is(B) ¦ 答：B ¦ 选B ¦ 答案选B ¦ 故选B。 ¦ 正确答案：B ¦ Richtige Antwort: B
La bonne réponse est la B ¦ La respuesta es la B. ¦ The answer is B (apostrophe), since...
A: wrong. B: right. The answer is B ¦ B<|eot_id|><|start_header_id|> ¦ B<|end|> ¦ B<|assistant|>
B<|END_OF_TURN_TOKEN|> ¦ B<eos> ¦ B [EOS] ¦ B<pad><pad> ¦ B</s></s> ¦ B<|im_end|>⏎<|im_start|> ¦ B<unk>
B<extra_id_0> ¦ <extra_id_0> B ¦ <0x0A>B ¦ ▁B ¦ ĠB ¦ B<br/> ¦ <div>B</div> ¦ <span class='x'>B</span>
<code>B</code> ¦ &quot;B&quot; ¦ &nbsp;B ¦ B&nbsp; ¦ ```⏎B⏎``` ¦ ```B``` ¦ B… ¦ B... ¦ …B ¦ …the answer is B.
...B ¦ 'B.' ¦ ‘B’ ¦ „B“ ¦ «B» ¦ 「B」 ¦ 【B】 ¦ （B） ¦ Ｂ． ¦ B。 ¦ Step 1: x⏎Step 2: y⏎Answer: B
"""
)

NAMES_NONE = _forms(
    r"""
<think>The answer is B ¦ <think>B ¦ <thinking>⏎The answer is B. ¦ <reasoning>B. apostrophe ¦ A or B ¦ A and B
A, B ¦ A/B ¦ A B ¦ The answer is A or B. ¦ Either A or B ¦ Both A and B ¦ The answer is not B.
B is not the answer. ¦ B is wrong. ¦ B is incorrect. ¦ It is not B. ¦ Not B ¦ Option B is incorrect.
The answer isn't B. ¦ I don't think the answer is B. ¦ I doubt that the answer is B.
If it compares, the answer is C. ¦ A plant needs water. ¦ A figure of speech ¦ NONE ¦ None of the above ¦ none
I cannot answer. ¦ I'm not sure. ¦ Sorry, I can't help with that. ¦ D ¦ (D) ¦ The answer is D. ¦ E. apostrophe
A. apostrophe ¦ (A) apostrophe ¦ The answer is A) apostrophe ¦ The answer is A (apostrophe)
A. chiasmus⏎B. apostrophe⏎C. simile ¦ A) chiasmus B) apostrophe C) simile
(A) chiasmus (B) apostrophe (C) simile ¦ The options are A. chiasmus, B. apostrophe and C. simile.
chiasmus apostrophe ¦ chiasmus or apostrophe ¦ It could be apostrophe ¦ The answer is A. So the answer is B.
The answer is A. The answer is B. ¦ \boxed{A} and \boxed{B} ¦ The answer is A. \boxed{B}
<answer>A</answer><answer>B</answer> ¦ <answer>A or B</answer> ¦ {"answer": "A or B"} ¦ Is the answer B? ¦ B?
The answer is B? No. ¦ B or C is correct ¦ Neither A nor B is correct. ¦ The wrong answer is B.
The least likely answer is B. ¦ One possible answer is B. ¦ A student says the answer is B.
He said that the answer is B. ¦ You might think the answer is B. ¦ The answer is A. Wait, no.
The answer is B. No, wait. ¦ B. No, A. ¦ B or not ¦ B and C are wrong. ¦ The answer is all of the above.
The answer is A, B or C. ¦ A: no, B ¦ The answer is a figure of speech. ¦ The answer is I think a simile or so
Options: A, B, C ¦ I would not choose B. ¦ Should I choose B? ¦ The answer cannot be B.
It is false that the answer is B. ¦ Unless it compares, the answer is B. ¦ The answer is either B or C.
The answer is B/C ¦ B & C ¦ B + C ¦ B, C ¦ BC ¦ The answers are B and C. ¦ A is correct. B is correct.
A. chiasmus. B. apostrophe. ¦ apostrophe⏎simile ¦ HALSOLUTERs ¦ 42 ¦ 7 ¦ The answer is 1.
Let me think about A. It is a reversal. ¦ A. No, B. ¦ B) is wrong ¦ B. is wrong ¦ apostrophe is wrong
Not apostrophe ¦ The answer is not apostrophe. ¦ It is not an apostrophe. ¦ This isn't an apostrophe.
unlike an apostrophe ¦ The opposite is apostrophe. ¦ B. simile because it compares ¦ The answer is (B) simile.
The answer is B, simile. ¦ Answer: B simile ¦ \boxed{D} ¦ apostrophe (A) ¦ simile, option B ¦ B⏎B⏎A ¦ A⏎B⏎C
1. A⏎2. B ¦ Answer: not B ¦ Answer: A? No. B. ¦ <think>a</think><think>The answer is B ¦ <Think>⏎B⏎ ¦ <think >B
&lt;think&gt;B ¦ <|channel|>analysis<|message|>The answer is B ¦ If A, then the answer is B. ¦ A and C ¦ (A)(B)
A;B ¦ [A, B] ¦ {"answer": ["A", "B"]} ¦ {"answer": 1} ¦ {"answer": null} ¦ {"A": 0.1, "B": 0.9}
{"answer": "A", "answer": "B"} ¦ Neither ¦ None ¦ N/A ¦ unknown ¦ an ¦ I ¦ The
second ¦ The second one ¦ Be ¦ See ¦ C is the letter that begins 'chiasmus'
The answer is C-level. ¦ The answer is B12. ¦ Vitamin B ¦ Plan B ¦ The answer is B vitamins. ¦ Grade A
The answer is an A. ¦ Type B ¦ Answer: Both ¦ Apostrophes ¦ The apostrophe is not used here.
There is no apostrophe. ¦ The text is not an apostrophe. ¦ The answer is apostrophe or simile.
The answer is apostrophe and simile ¦ apostrophe/simile ¦ apostrophe, simile ¦ Apostrophe. Simile.
B. apostrophe or C. simile ¦ B. apostrophe, C. simile ¦ B. apostrophe⏎C. simile ¦ A chiasmus is used. ¦ B simile
The answer is B? ¦ B? Yes. ¦ The answer might be B. ¦ Maybe B ¦ The answer is A. On second thought, B.
Option B is the only one that fits.
"""
)
