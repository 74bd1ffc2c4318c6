"""Sentences about something else, other voices and tags in answer texts, with what a person would read in them."""

COLOURS = ("red", "blue", "green", "yellow")
FIGURES = ("chiasmus", "apostrophe", "simile")
STATES = ("solid", "liquid", "gas")
PH = ("acidic", "basic", "neutral")
ANIMALS = ("dog", "cat", "horse")
NUMBERS = ("2", "3", "5")
FORCES = ("push", "pull")
COLONIES = ("New Hampshire", "Virginia", "Georgia")
YES_NO = ("yes", "no")
DOTS = ("12", "15", "18")
MARKED = ("Is it raining?", "It is raining.", "Rain!")
PLACES = ("Maine", "Ohio", "Texas")

BALL = "What colour is the ball next to the box?"
FIGURE = "Which figure of speech is used in this text?"
STATE = "Which state of matter is the steam?"
LEAF = "Is the leaf of this plant acidic, basic or neutral?"
MAT = "What animal sits on the mat?"
APPLES = "How many apples are on the table?"
NORTH = "Which of these states is farthest north?"

# What a person says was fixed before the reader was changed: question, options, the option (-1: none), texts. One text
# between bars; ⏎ is a line end.
SENTENCES: tuple[tuple[str, tuple[str, ...], int, str], ...] = (
    (
        BALL,
        COLOURS,
        -1,
        r"""
The sky is blue ¦ The sky is blue. ¦ This sky is blue. ¦ I see that the sky is blue. ¦ Because the sky is blue.
The box is blue. ¦ The colour of the box is blue. ¦ The right ball is blue. ¦ The best part of the picture is blue.
The sky is wide. It is blue. ¦ Look at the sky. It is blue. ¦ It is the sky that is blue. ¦ The solution is blue.
The only thing that is blue ¦ The box was blue ¦ Grass is green. ¦ My eyes are green ¦ A lemon is yellow.
The colour I like is blue. ¦ The result of the mixture is green. ¦ The ball is next to the box, and the box is blue.
Roses are red, violets are blue. ¦ The word that rhymes with you is blue. ¦ The name of the song is Blue.
""",
    ),
    (
        BALL,
        COLOURS,
        1,
        r"""
The ball is blue. ¦ The ball is blue ¦ The colour is blue. ¦ The colour of the ball is blue. ¦ It is blue.
The ball in the picture is blue. ¦ The ball's colour is blue. ¦ It's blue. ¦ The ball next to the box is blue.
The answer is blue. ¦ The correct colour is blue. ¦ The ball shown here is blue (B). ¦ This is blue. ¦ Blue.
The ball is round. It is blue. ¦ The colour of the ball is clearly blue. ¦ This ball is blue. ¦ The color is blue.
""",
    ),
    (
        "",
        COLOURS,
        -1,
        r"""
The sky is blue ¦ The right box is blue. ¦ The best thing about it is blue. ¦ The solution is blue. ¦ Snow is blue
""",
    ),
    (
        "",
        COLOURS,
        1,
        r"""
It is blue. ¦ The colour is blue. ¦ The sky is blue. B ¦ The sky is blue (B). ¦ Solution: blue ¦ That is blue.
""",
    ),
    (
        FIGURE,
        FIGURES,
        1,
        r"""
The figure of speech used in this text is an apostrophe. ¦ The text uses an apostrophe. ¦ This text uses apostrophe.
The figure of speech is apostrophe. ¦ The figure is an apostrophe. ¦ It speaks to someone. It is an apostrophe.
""",
    ),
    (
        FIGURE,
        FIGURES,
        -1,
        r"""
The mark before the s is an apostrophe. ¦ The title of the poem is Apostrophe. ¦ My favourite figure is apostrophe.
""",
    ),
    (
        STATE,
        STATES,
        2,
        r"""
The steam is a gas. ¦ The state of matter is gas. ¦ The state of the steam is gas. ¦ Steam is a gas.
""",
    ),
    (
        STATE,
        STATES,
        -1,
        r"""
The ice is solid. ¦ Water is a liquid. ¦ The fuel of the kettle is gas. ¦ The kettle is solid.
""",
    ),
    (
        LEAF,
        PH,
        -1,
        r"""
The solution is basic. ¦ The result is basic. ¦ The soil of this plant is basic. ¦ The question is basic.
""",
    ),
    (
        LEAF,
        PH,
        1,
        r"""
The leaf is basic. ¦ The leaf of this plant is basic. ¦ This plant's leaf is basic. ¦ My answer is basic.
""",
    ),
    (
        NORTH,
        PLACES,
        0,
        r"""
The state farthest north is Maine. ¦ The farthest north of these states is Maine. ¦ The answer is Maine.
""",
    ),
    (
        NORTH,
        PLACES,
        -1,
        r"""
The state farthest south is Texas. ¦ My home is Texas. ¦ The largest of these states is Texas.
""",
    ),
)

VOICES: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (
        FIGURES,
        -1,
        r"""
<plan>A</plan> ¦ <plan>The answer is A. ¦ <draft>A ¦ <notes>B</notes> ¦ <planning>⏎It may be B.⏎The answer is B.
<step>The answer is A</step> ¦ <critique>B is correct.</critique> ¦ <question>Is it B?</question> ¦ [PLAN]A[/PLAN]
[NOTES]⏎The answer is A.⏎[/NOTES] ¦ <hypothesis>B</hypothesis> ¦ <wrong_answer>B</wrong_answer> ¦ <initial_answer>B
<plan id="1">The answer is B ¦ <PLAN>⏎B⏎ ¦ <internal-notes>⏎The answer is B ¦ <tool_call>B</tool_call> ¦ &lt;plan&gt;B
＜plan＞B ¦ <search>The answer is B.</search> ¦ <scratchpad>B ¦ <scratch-work>The answer is B</scratch-work>
<student>B</student> ¦ <plan><step>A</step>The answer is B
""",
    ),
    (
        FIGURES,
        1,
        r"""
<plan>The answer is A</plan>B ¦ <plan>A</plan>⏎⏎The answer is B. ¦ <draft>A</draft><answer>B</answer>
<plan>⏎A or C?⏎</plan>⏎<response>B</response> ¦ The answer is A</plan>B ¦ [PLAN]A[/PLAN]B ¦ <response>B</response>
<initial_answer>A</initial_answer><final_answer>B</final_answer> ¦ <output>B</output> ¦ <final>The answer is B.</final>
<notes>C</notes><solution>B</solution> ¦ B <notes>A is close</notes> ¦ <plan>A</plan><check>C</check>(B) apostrophe
<div class="x">B</div> ¦ <kbd>B</kbd> ¦ <plan>A<step>C</step></plan>Answer: B ¦ [b]B[/b] ¦ <section>B</section>
<internal-notes>A</internal-notes>⏎B ¦ <question>Is it A?</question><answer>B</answer> ¦ <result>apostrophe</result>
""",
    ),
    (
        FIGURES,
        -1,
        r"""
Answer: <s>B</s> C ¦ <s>B</s> C ¦ The answer is <s>A</s> B. ¦ <s>A</s>B ¦ Answer: <s>B</s> ¦ <s>A</s><s>B</s>
<s>apostrophe</s> simile ¦ (<s>B</s>) C ¦ Answer: [s]B[/s] ¦ Answer: B̶ ¦ \sout{B} ¦ Answer: \cancel{B} ¦ ~~B~~
""",
    ),
    (
        FIGURES,
        1,
        r"""
<s>B</s> ¦ <s> B </s></s> ¦ <s>B</s><s> ¦ <s>[INST] A or C? [/INST] B</s> ¦ <s>The answer is B.</s> ¦ ~~A~~ B ¦ B</s>C
B </s><s>[INST] And next? [/INST] A</s> ¦ <s>B</s> B ¦ <s>The answer is⏎B</s>
""",
    ),
    (
        FIGURES,
        -1,
        r"""
Teacher: A? Student: no, B ¦ Teacher: Is it A?⏎Student: No, the answer is B. ¦ Student: The answer is B.
Anna: The answer is A.⏎Ben: Yes. ¦ Anna: Is it A? Ben: The answer is B. ¦ Tom: B is correct. ¦ Professor: It's B.
Interviewer: Which one?⏎Guest: I choose B. ¦ Student 1: The answer is A.⏎Student 2: I agree.
User: A? Assistant: B. User: Sure? Assistant: A. ¦ Mom: The answer is B. Son: Thanks! ¦ **Teacher:** The answer is B.
Person A: It is an apostrophe.⏎Person B: Right. ¦ Mr. Lee: The answer is B.
Customer: The answer is B⏎Agent: Let me see. ¦ Human: The answer is B. ¦ User: B ¦ Speaker 1: I think B.⏎Speaker 2: OK.
"The answer is B," said Anna. ¦ "It's B," she said. ¦ Anna said: "The answer is B." ¦ - Is it A?⏎- No, it's B.
– The answer is A. – Really? – Yes. ¦ Teacher: Which one?⏎Class: B! ¦ Alice: B⏎Bob: B ¦ Judge: B is right.
(Teacher) The answer is B. ¦ [Teacher]: The answer is B. ¦ Teacher - The answer is B. ¦ Student A: B
""",
    ),
    (
        FIGURES,
        1,
        r"""
User: Which one is it? Assistant: B ¦ User: A or C?⏎Assistant: The answer is B. ¦ B User: And next? Assistant: A
B⏎User: And next?⏎Assistant: A ¦ The answer is B. Human: Thanks! ¦ Assistant: B⏎User: Why?⏎Assistant: It speaks.
Question: Which is it?⏎Answer: B ¦ Q: Which is it?⏎A: B ¦ Teacher: Is it A?⏎Student: No.⏎Answer: B
Explanation: it speaks to someone.⏎The answer is B. ¦ Note: The answer is B. ¦ Step 1: Look.⏎Step 2: The answer is B.
Reasoning: It speaks. Conclusion: The answer is B. ¦ Analysis: The answer is B. ¦ AI: B
In the text: "Anna: Hi!" The answer is B.
Chiasmus: a reversal.⏎Simile: a comparison.⏎The answer is B.
Note to the teacher: the answer is B. ¦ Bot: B
""",
    ),
    (
        FIGURES,
        -1,
        r"""
A: the first three ¦ B: the first three ¦ C: three of them ¦ A: the first three.⏎B: the last two. ¦ A: my dear friend
A. the first three. B. the last two. ¦ A. It reverses. B. It speaks. C. It compares. ¦ A) the first B) the second
A: Hello! ¦ A: Yes, of course. ¦ A: Is it a chiasmus? B: No. ¦ A: Hi, how are you?⏎B: Fine. ¦ a) one b) two
B: Good morning ¦ A: a figure of speech ¦ (a) the first three, (b) the last two ¦ A: It speaks to someone absent.
A - the first three; B - the last two ¦ B: three words, C: two words ¦ A: Which one is it? ¦ B: Which one is it?
""",
    ),
    (
        FIGURES,
        1,
        r"""
B: It speaks to someone absent. ¦ B: apostrophe, the second one ¦ B: because it speaks to someone absent.
B: apostrophe ¦ B. It speaks to someone absent. ¦ Q: A or C?⏎A: It's B. ¦ B: this is an address to someone.
A: apostrophe (B)
""",
    ),
)


# Written when the reader read the texts above, before it was tried on these.
HELD_BACK: tuple[tuple[str, tuple[str, ...], int, str], ...] = (
    (
        MAT,
        ANIMALS,
        -1,
        r"""
The mat is a cat. ¦ The owner is a horse. ¦ My pet is a dog ¦ Our neighbour's animal is a dog.
The best friend of man is the dog. ¦ A tiger is a cat. ¦ Everything I see is a cat ¦ The left one is a cat.
The shadow looks odd. It is a... the mat is red ¦ The right animal is the horse.
""",
    ),
    (
        MAT,
        ANIMALS,
        1,
        r"""
The animal on the mat is a cat. ¦ The animal is a cat. ¦ The animal that sits on the mat is a cat. ¦ It is a cat.
That is a cat. ¦ This animal is clearly a cat. ¦ The animal sitting there is a cat (B).
""",
    ),
    (
        APPLES,
        NUMBERS,
        -1,
        r"""
The price is 3. ¦ The number of pears is 3. ¦ The table is 5. ¦ My age is 5.
""",
    ),
    (
        APPLES,
        NUMBERS,
        1,
        r"""
The number of apples is 3. ¦ The number of apples on the table is 3. ¦ The answer is 3. ¦ There it is: 3
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
<outline>The answer is B</outline> ¦ <brainstorm>B ¦ <memo>⏎I choose B.⏎
<analysis_step_1>B is correct</analysis_step_1> ¦ [DRAFT] The answer is B. ¦ <selftalk>So it's B</selftalk>
<observe>B.</observe> ¦ <a1>B</a1> ¦ <plan >B ¦ < plan >B ¦ <plan/ >B
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
<outline>A, C</outline>⏎B ¦ <selftalk>C?</selftalk>The answer is B. ¦ <brainstorm>⏎A⏎C⏎</brainstorm>⏎⏎**B**
<my_answer>B</my_answer> ¦ <Final-Answer>B</Final-Answer>
<analysis_step_1>A</analysis_step_1><analysis_step_2>C</analysis_step_2>Answer: B ¦ The answer is <em>B</em>.
<p class='a'>B</p> ¦ <ul><li>B</li></ul> ¦ x<y, so the answer is B ¦ 1 < 2 and 3 > 2, so B is correct. ¦ <image>⏎B
<start_of_turn>model⏎B<end_of_turn> ¦ <plan>A</plan>⏎<answer>(B) apostrophe</answer>⏎<check>C</check>
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
B <s>C</s> ¦ I choose <s>A</s> <s>B</s> C ¦ <s>B</s> or C ¦ <s>A. chiasmus</s> B. apostrophe ¦ Answer: ~~B~~
Answer: <strike>B</strike> ¦ Answer: <del>B</del>
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
<del>A</del> B ¦ Answer: ~~A~~ B ¦ <strike>The answer is A.</strike> The answer is B. ¦ <s>⏎B⏎</s>
<s>Answer: B</s></s></s>
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
Mrs. Smith: The answer is B. ¦ Expert 1: B⏎Expert 2: A ¦ Lehrer: Die Antwort ist B.
Maria: I think it's B.⏎Peter: Me too. ¦ Zoltan: The answer is B.⏎Yuki: No. ¦ "B is correct," the teacher says.
My friend says: The answer is B. ¦ The answer is B, says the teacher. ¦ STUDENT: The answer is B.
**Student**: B is correct ¦ Student (thinking): The answer is B. ¦ > Teacher: the answer is B
Doctor: It's B.⏎Patient: Thanks. ¦ — Is it C?⏎— No, the answer is B. ¦ Pupil: \boxed{B} ¦ Tom: <answer>B</answer>
System: The answer is B ¦ Narrator: So the answer is B.
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
Evidence: it speaks. So the answer is B. ¦ Correct: B ¦ Verdict: B ¦ Choice: B⏎Reason: it speaks
Deduction: The answer is B. ¦ User: Is it A?⏎⏎Assistant: No. The answer is B. ¦ USER: What is it? ASSISTANT: B
The answer is B.⏎⏎User: And the next one?⏎⏎Assistant: A
The speaker addresses someone absent, so the answer is B. ¦ The student speaks to the moon: the answer is B.
As the teacher said, it speaks to the moon. The answer is B. ¦ Final answer: B⏎Teacher: Good.
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
A: my mother ¦ C: the moon, of course ¦ B: to the moon ¦ A: 5 apples⏎B: 3 apples ¦ a: one⏎b: two
B: one; C: two; A: three ¦ A. one, B. two, C. three ¦ A: He speaks to the moon. ¦ (A) Hello (B) Goodbye ¦ B: What?
A: B or C
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
B: since it speaks to someone absent ¦ B: the text is an address to the moon. ¦ B. It addresses the moon.
B) The moon is addressed. ¦ (B) because the moon is addressed ¦ B - it addresses the moon
Answer: B: it addresses the moon.
""",
    ),
    # The next lot, written when the reader read these.
    (
        "Which type of force from the baby's hand opens the cabinet door?",
        FORCES,
        -1,
        r"""
The door handle is a pull. ¦ Gravity is a pull. ¦ The wind is a push. ¦ A magnet is called a pull
My first thought is a push
""",
    ),
    (
        "Which type of force from the baby's hand opens the cabinet door?",
        FORCES,
        1,
        r"""
The force from the baby's hand is a pull. ¦ The type of force is a pull.
The baby's hand opens the door, so it is a pull. ¦ The force is a pull.
It's a pull force? No: the answer is pull. ¦ The baby pulls the door. This is a pull.
""",
    ),
    (
        "What is the name of the colony shown?",
        COLONIES,
        1,
        r"""
The colony shown is Virginia. ¦ The name of the colony is Virginia. ¦ The colony is Virginia.
The name of the colony shown is Virginia. ¦ Virginia is the colony shown.
""",
    ),
    (
        "What is the name of the colony shown?",
        COLONIES,
        -1,
        r"""
The author's birthplace is Virginia. ¦ Her name is Georgia. ¦ The neighbouring colony is Virginia.
The capital of the region is Virginia. ¦ My aunt's name is Virginia
""",
    ),
    (
        "Does the passage describe the weather or the climate of the place?",
        YES_NO,
        -1,
        r"""
The first word is no. ¦ The sign on the door is yes.
""",
    ),
    (
        "How many dots are in the picture?",
        DOTS,
        1,
        r"""
The number of dots is 15. ¦ There are 15. ¦ The number of dots in the picture is 15. ¦ The total is 15
""",
    ),
    (
        "How many dots are in the picture?",
        DOTS,
        -1,
        r"""
The page number is 15. ¦ My age is 15. ¦ The width of the picture is 15.
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
<planner>⏎1. Look at it.⏎2. The answer is B.⏎</planner> ¦ <thinking-out-loud>B</thinking-out-loud>
<Answer_draft>B</Answer_draft> ¦ <self-critique>The answer should be B.</self-critique>
<steps><step1>A</step1><step2>B</step2></steps> ¦ {plan: "B"} ¦ <plan>B⏎⏎B
<function_call>{"answer": "B"}</function_call> ¦ <eval>B is correct</eval>
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
<planner>⏎Look.⏎</planner>⏎The answer is **B**. ¦ <steps><step1>A</step1></steps>B
<answer><plan>A</plan>B</answer> ¦ <function_call>{"x": "A"}</function_call>⏎Answer: B
<html><body>B</body></html> ¦ <b>Answer:</b> B<br/>
<p><strong>B. apostrophe</strong></p><p>It speaks to someone.</p> ¦ <span style='color: red'>B</span>
<final>B</final> ¦ <model_answer>B</model_answer>
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
Lucy: I'd say B. ¦ The teacher said that the answer is B. ¦ According to Anna, the answer is B.
My professor: "The answer is B." ¦ Grader: B is the correct answer.⏎Student answer: A
Contestant 1: B⏎Contestant 2: C ¦ Q: Is it A?⏎A: No⏎Q: Is it B?⏎A: Yes ¦ Me: A?⏎You: The answer is B.
Ravi: The answer is B.⏎Omar: I agree. ¦ [Student] B ¦ Alice says B. Bob says C. ¦ He answered B.
Father - It's B. ¦ Teacher: What is it?⏎⏎Student: B.⏎⏎Teacher: Correct!
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
Dear student, the answer is B. ¦ The teacher asks for a figure of speech. The answer is B.
Hello! I am your tutor. The answer is B. ¦ Tutor note aside, the answer is B.
In this poem Anna speaks to the moon: B. ¦ Final: B ¦ Mark: B ¦ Correct choice: B. Mom would agree.
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
A: x, B: y ¦ B: hello there ¦ A: blue⏎B: red⏎C: green ¦ A - B - C ¦ C: no idea ¦ B: n/a ¦ B: see above
A: The moon. ¦ B: The moon. ¦ (B): three lines
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
(B): it speaks to the moon. ¦ B: This line speaks to the moon. ¦ B; it speaks to the moon ¦ B. The moon.
[B]: apostrophe ¦ B: the speaker is addressing the moon
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
B <s>A</s> C ¦ Answer: A <s>B</s> ¦ <s>A B</s> ¦ The answer is ~~B~~. ¦ <S>B</S> C
""",
    ),
    (
        "",
        COLOURS,
        -1,
        r"""
The ocean is blue, and it is deep. ¦ Everything is green. ¦ The background is blue. ¦ The correct side is blue?
Today's sky is blue. ¦ What I like best is blue. ¦ The word on the card is blue. ¦ He says it is blue.
If it is blue. ¦ The best colour for me is blue ¦ The right colour for the sky is blue
""",
    ),
    # The next lot, written when the reader read these.
    (
        "",
        COLOURS,
        -1,
        r"""
Blue? ¦ The answer is blue? ¦ It is blue? ¦ blue ? ¦ Is it blue? ¦ B. blue? ¦ I choose blue?
""",
    ),
    (
        "",
        COLOURS,
        1,
        r"""
Blue! ¦ Is it red? No, it is blue. ¦ Which one? Blue. ¦ What colour? The answer is blue. ¦ Blue: see?
""",
    ),
    (
        "",
        MARKED,
        0,
        r"""
Is it raining? ¦ A. Is it raining? ¦ The answer is Is it raining? ¦ is it raining? ¦ (A) Is it raining?
""",
    ),
    (
        "What colour is the car?",
        COLOURS,
        1,
        r"""
The car is blue. ¦ The colour of the car is blue. ¦ The car in the picture is blue. ¦ I think the car is blue.
So the car is blue. ¦ Clearly, the car is blue. ¦ Looking at the picture, the car is blue.
The car shown in the image is blue. ¦ The car appears blue, so the answer is blue.
""",
    ),
    (
        "What colour is the car?",
        COLOURS,
        -1,
        r"""
The car next door is blue. ¦ The truck is blue. ¦ My car is blue. ¦ A car is blue.x
The driver of the car is blue. ¦ The car's door is blue. ¦ The other car is blue. ¦ The car behind it is blue.
The road where the car is is blue. ¦ I see the truck and it is blue.
""",
    ),
    (
        "Which of these states is farthest north?",
        PLACES,
        0,
        r"""
The state that is farthest north is Maine. ¦ Of these states, the farthest north is Maine.
""",
    ),
    (
        "According to the map, which state is largest?",
        PLACES,
        2,
        r"""
The largest state is Texas. ¦ According to the map, the largest state is Texas.
According to the map, the answer is Texas. ¦ The state that is largest is Texas.
""",
    ),
    (
        "According to the map, which state is largest?",
        PLACES,
        -1,
        r"""
The smallest state is Ohio. ¦ The second largest state is Ohio. ¦ My home state is Texas.
The state next to it is Texas. ¦ The largest city is Texas.
""",
    ),
    (
        "",
        FIGURES,
        -1,
        r"""
According to the teacher, the answer is B. ¦ According to my friend Bob, B is correct.
The answer is B, according to Alice. ¦ <hint>The answer is B</hint> ¦ Alice (a student): The answer is B.
""",
    ),
    (
        "",
        FIGURES,
        1,
        r"""
According to the text, the answer is B. ¦ According to the picture, B is correct.
According to Newton's law, the answer is B.
""",
    ),
)

NOT_READ = (
    "Chiasmus: a reversal.\nSimile: a comparison.\nThe answer is B.",
    "A: apostrophe (B)",
    "Verdict: B",
    "The student speaks to the moon: the answer is B.",
    "Virginia is the colony shown.",
    "In this poem Anna speaks to the moon: B.",
    "Final: B",
    "Mark: B",
    "B; it speaks to the moon",
    "Which one? Blue.",
    "Blue: see?",
)
"""A person reads an option in these and the reader nothing."""


def texts(packed: str) -> list[str]:
    """Return the texts of one block."""
    return [text.strip().replace("⏎", "\n") for line in packed.strip().splitlines() for text in line.split("¦")]
