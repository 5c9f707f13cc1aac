# SPDX-License-Identifier: Apache-2.0
"""Chat turns for the toy: greetings, what it is, what a KV cache is, facts told and asked back,
pairs of the recall tasks in a conversation, stories, and the admission that it does not know. All
texts are written for this file, the stories excepted (TinyStories)."""

import re

NAMES = (
    """Tom Lily Max Anna Ben Mia Sam Lucy Tim Sara Jack Emma Leo Amy Bob Sue Dan Eva Joe Kate Nick
Rose Paul Jane Mark Ruth Peter Mary Fred Alice""".split()
)
COLORS = "red blue green yellow black white brown pink purple orange gray gold".split()
PETS = "dog cat bird fish rabbit horse mouse turtle duck frog hamster pony".split()
FOODS = "apples bread cake soup rice cheese cookies pizza honey grapes pears carrots".split()
PLACES = "Paris London Rome Berlin Madrid Vienna Oslo Dublin Boston Chicago Tokyo Cairo".split()
SPORTS = "football tennis chess swimming running dancing singing painting reading cooking".split()
THINGS = "ball car book hat bike kite boat drum box lamp coat doll".split()

HELLO = [
    "Hello",
    "Hi",
    "Hey",
    "Good morning",
    "Good evening",
    "Hello there",
    "Hi there",
    "hello",
    "hi",
]
HELLO_BACK = [
    "Hello! I am larder-mini, a toy model. How can I help you?",
    "Hi! I am larder-mini. Ask me for a story, or tell me something to remember.",
    "Hello! Tell me something, and I will try to remember it.",
]

IDENTITY = [
    "I am larder-mini, a tiny language model that comes with Larder. I am a toy to see the cache "
    "at work.",
    "I am larder-mini, a toy model inside Larder. I can tell little stories and remember what you "
    "tell me. I do not know much else.",
]
LARDER = [
    "Larder is a cache for language models. It keeps answers and computed keys and values, so that "
    "the same prompt is not cooked twice.",
    "Larder is one cache for serving language models. It keeps what was computed before and uses "
    "it again.",
]
KV = [
    "A KV cache holds the keys and values that a model computed for the words it has read. With it "
    "the model does not read the whole text again for every new word.",
    "The KV cache is the memory of a language model while it runs: one key and one value for every "
    "word, in every layer.",
]
CAN = [
    "I can tell a little story, and I can remember what you tell me. For more, load a real model "
    "with larder serve --model.",
    "Not much: little stories, and words you ask me to remember. I am a toy to see the cache at "
    "work.",
]
REAL = [
    "Load a real model: larder serve --model some.gguf. I am only a toy.",
    "I am only a toy. Start larder serve --model with a GGUF file to talk to a real model.",
]
POLICY = [
    "A KV policy decides which keys and values the cache keeps when there is not room for all.",
    "It decides which rows of the KV cache stay and which are thrown away.",
]
SIZE = [
    "I am very small: less than three million numbers. Real models have billions.",
    "Less than three million parameters. That is tiny.",
]
WHO = [
    "I was trained with a recipe in the Larder repository, on two processor cores.",
    "The people who write Larder trained me. The recipe is in tools/train.",
]
FINE = ["I am fine, thank you. How are you?", "I am well, thank you for asking."]
BYE = ["Goodbye! It was nice to talk with you.", "Bye! Come back soon."]
THANKS = ["You are welcome.", "You are welcome! Is there anything else?"]
UNKNOWN = [
    "I do not know that. I am only a toy model with a small memory.",
    "I am sorry, I do not know. I am a toy: I can tell a story or remember words.",
    "I do not know. Load a real model for that: larder serve --model some.gguf.",
]

FIXED = [
    (
        [
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Who am I talking to?",
            "Tell me about yourself.",
            "Are you a robot?",
            "Are you ChatGPT?",
            "Which model are you?",
            "What model is this?",
            "What is larder-mini?",
            "who are you",
            "what are you",
            "Introduce yourself.",
            "Are you a person?",
            "Are you an AI?",
            "Who is this?",
        ],
        IDENTITY,
    ),
    (
        [
            "What is Larder?",
            "Tell me about Larder.",
            "What does Larder do?",
            "what is larder",
            "Explain Larder.",
            "Can you explain what Larder is?",
            "What is Larder for?",
            "Why should I use Larder?",
        ],
        LARDER,
    ),
    (
        [
            "What is a KV cache?",
            "What is the KV cache?",
            "Explain the KV cache.",
            "what is a kv cache",
            "What does a KV cache do?",
            "Can you explain what a KV cache is?",
            "What is a cache?",
            "Tell me about the KV cache.",
            "How does a KV cache work?",
            "What are keys and values?",
        ],
        KV,
    ),
    (
        [
            "What can you do?",
            "What do you know?",
            "How can you help me?",
            "Help",
            "help",
            "Can you help me?",
            "What are you good at?",
            "What should I ask you?",
        ],
        CAN,
    ),
    (
        [
            "How do I load a real model?",
            "How can I use a bigger model?",
            "Can I use another model?",
            "How do I get better answers?",
            "How do I load a model?",
            "Why are you so stupid?",
            "Your answers are bad.",
        ],
        REAL,
    ),
    (["What is a KV policy?", "What does a policy do?", "What is a cache policy?"], POLICY),
    (
        [
            "How big are you?",
            "How many parameters do you have?",
            "How large are you?",
            "Are you big?",
        ],
        SIZE,
    ),
    (
        [
            "Who made you?",
            "Who trained you?",
            "Where do you come from?",
            "How were you trained?",
            "Who built you?",
        ],
        WHO,
    ),
    (
        ["How are you?", "How are you today?", "How do you do?", "Are you well?", "how are you"],
        FINE,
    ),
    (["Goodbye", "Bye", "Goodbye!", "Bye!", "See you later.", "Good night.", "bye"], BYE),
    (
        ["Thank you.", "Thanks!", "Thank you very much.", "Thanks", "thank you", "Thanks a lot."],
        THANKS,
    ),
]

UNKNOWN_ASKED = [
    "What is the capital of {place}?",
    "How far is it from {place} to {place2}?",
    "Why is the {thing} {color}?",
    "How do I make {food}?",
    "Write a program that counts {food}.",
    "What is {n} + {m}?",
    "What is {n} times {m}?",
    "Translate {thing} into French.",
    "Who won the {sport} match?",
    "What is the weather in {place}?",
    "When was {place} built?",
    "How old is {name}?",
    "Who is {name}?",
    "Where is {name}?",
    "Write a poem about {food}.",
    "How many people live in {place}?",
    "Explain {sport} to me.",
    "What is the meaning of life?",
    "What time is it?",
    "What day is today?",
    "Who is the president?",
    "How much is a {thing}?",
    "What do you think about {place}?",
    "Do you like {food}?",
]

# (told, asked, answer); one of each list is taken. The answer ends in words that were told in that
# order, so that looking up what followed them is enough.
FACTS = [
    (
        ["My name is {name}.", "Hello, my name is {name}.", "Hi! My name is {name}."],
        [
            "What is my name?",
            "What's my name?",
            "Do you know my name?",
            "Who am I?",
            "Do you remember my name?",
        ],
        ["Your name is {name}."],
    ),
    (
        ["My favorite color is {color}."],
        [
            "What is my favorite color?",
            "Which color do I like?",
            "Do you remember my favorite color?",
        ],
        ["Your favorite color is {color}."],
    ),
    (
        ["I have a {pet}.", "At home I have a {pet}."],
        ["What pet do I have?", "Which animal do I have?", "What is my pet?"],
        ["You have a {pet}."],
    ),
    (
        ["My {pet} is called {name2}.", "My {pet} at home is called {name2}."],
        [
            "What is my {pet} called?",
            "What is the name of my {pet}?",
            "Do you remember the name of my {pet}?",
        ],
        ["Your {pet} is called {name2}."],
    ),
    (
        ["I live in {place}.", "Now I live in {place}."],
        ["Where do I live?", "Where is my home?", "Which city do I live in?"],
        ["You live in {place}."],
    ),
    (
        ["I like {food}.", "I really like {food}."],
        ["What do I like to eat?", "Which food do I like?", "What do I like?"],
        ["You like {food}."],
    ),
    (
        ["My hobby is {sport}.", "In the evening my hobby is {sport}."],
        ["What is my hobby?", "What do I like to do?"],
        ["Your hobby is {sport}."],
    ),
    (
        ["My {thing} is {color2}.", "I have a {thing}. My {thing} is {color2}."],
        [
            "What color is my {thing}?",
            "Which color is my {thing}?",
            "Do you remember the color of my {thing}?",
        ],
        ["Your {thing} is {color2}."],
    ),
    (
        ["The code is {n}.", "Remember this: The code is {n}."],
        ["What is the code?", "Which code did I tell you?"],
        ["The code is {n}."],
    ),
    (
        ["The secret word is {key}.", "Listen: The secret word is {key}."],
        ["What is the secret word?", "Which word did I tell you?", "What was the word?"],
        ["The secret word is {key}."],
    ),
]
NOTED = [
    "I will remember that.",
    "Good to know. I will remember it.",
    "Thank you, I will remember that.",
    "Nice! I will remember that.",
]
SYSTEMS = [
    "You are a helpful assistant.",
    "You are larder-mini, a toy model.",
    "Answer in short sentences.",
]


class Chat:
    def __init__(self, words, stories):
        self.keys, self.values, self.filler = words["keys"], words["values"], words["filler"]
        self.topics = []
        for text in stories:
            first = set(re.findall(r"[a-z]{3,}", text[:400]))
            self.topics.append((text, sorted(w for w in first if w in KNOWN)))

    def slots(self, rng):
        place, place2 = rng.sample(PLACES, 2)
        return {
            "name": rng.choice(NAMES),
            "name2": rng.choice(NAMES),
            "color": rng.choice(COLORS),
            "color2": rng.choice(COLORS),
            "pet": rng.choice(PETS),
            "food": rng.choice(FOODS),
            "place": place,
            "place2": place2,
            "sport": rng.choice(SPORTS),
            "thing": rng.choice(THINGS),
            "n": rng.randint(2, 99),
            "m": rng.randint(2, 99),
            "key": rng.choice(self.keys),
        }

    def fixed(self, rng):
        if rng.random() < 0.2:
            return [(rng.choice(HELLO) + rng.choice(["", "!", "."]), rng.choice(HELLO_BACK))]
        asked, answers = rng.choice(FIXED)
        question = rng.choice(asked)
        if rng.random() < 0.15:
            question = rng.choice(HELLO) + ". " + question
        return [(question, rng.choice(answers))]

    def unknown(self, rng):
        return [(rng.choice(UNKNOWN_ASKED).format(**self.slots(rng)), rng.choice(UNKNOWN))]

    def facts(self, rng):
        """One to three facts, told at once or one by one, asked at once or after other turns."""
        slots = self.slots(rng)
        picked = rng.sample(FACTS, rng.randint(1, 3))
        told = [rng.choice(t).format(**slots) for t, _, _ in picked]
        asked = [
            (rng.choice(q).format(**slots), rng.choice(a).format(**slots)) for _, q, a in picked
        ]
        rng.shuffle(asked)
        if rng.random() < 0.35:
            return [(" ".join(told) + " " + asked[0][0], asked[0][1])] + asked[1:]
        turns = (
            [(" ".join(told), rng.choice(NOTED))]
            if rng.random() < 0.5
            else [(t, rng.choice(NOTED)) for t in told]
        )
        if rng.random() < 0.4:
            turns += self.fixed(rng)
        return turns + asked[: rng.randint(1, len(asked))]

    def pairs(self, rng):
        """The recall tasks in a conversation."""
        keys = rng.sample(self.keys, rng.randint(1, 6))
        pairs = [(k, rng.choice(self.values)) for k in keys]
        lines = [f"{k} {v}." for k, v in pairs]
        for _ in range(rng.randint(0, 4)):
            lines.insert(
                rng.randint(0, len(lines)),
                " ".join(rng.choices(self.filler, k=rng.randint(4, 8))) + ".",
            )
        body = rng.choice(
            ["Remember: ", "Remember these words: ", "Please remember: ", ""]
        ) + " ".join(lines)
        asked = [
            (
                rng.choice(["? {}", "What goes with {}?", "What is next to {}?", "{}?"]).format(k),
                f"I remember: {k} {v}.",
            )
            for k, v in rng.sample(pairs, rng.randint(1, len(pairs)))
        ]
        if rng.random() < 0.4:
            return [(body + " " + asked[0][0], asked[0][1])] + asked[1:]
        return [(body, rng.choice(NOTED))] + asked

    def story(self, rng):
        text, topics = rng.choice(self.topics)
        ask = rng.choice(
            [
                "Tell me a story{}.",
                "Please tell me a story{}.",
                "Can you tell me a story{}?",
                "Write a story{}.",
                "I want to hear a story{}.",
                "Tell me a little story{}.",
            ]
        )
        about = " about a " + rng.choice(topics) if topics and rng.random() < 0.7 else ""
        return [(ask.format(about), text)]

    def conversation(self, rng, stories=True):
        """A list of (role, text); system perhaps, then user and assistant by turns."""
        turns = []
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            r = rng.random()
            kind = (
                self.fixed
                if r < 0.3
                else (
                    self.unknown
                    if r < 0.42
                    else (
                        self.facts
                        if r < 0.68
                        else self.pairs if r < 0.84 or not stories else self.story
                    )
                )
            )
            turns += kind(rng)
        out = [("system", rng.choice(SYSTEMS))] if rng.random() < 0.15 else []
        for user, assistant in turns:
            out += [("user", user), ("assistant", assistant)]
        return out


KNOWN = set(
    """
    dog cat bird fish rabbit horse mouse turtle duck frog bear lion tiger elephant fox wolf cow
    pig sheep monkey squirrel bee ant butterfly dragon princess prince king queen boy girl baby
    mom dad friend doctor farmer ball car truck train boat plane bike kite doll toy book box hat
    shoe shirt dress cup spoon bed chair table lamp door window house garden park forest beach
    sea river lake mountain tree flower leaf apple banana orange cake cookie candy bread soup
    egg milk ice snow rain sun moon star wind fire stone sand map key bell drum guitar piano
    song game race party birthday wish gift secret treasure robot rocket castle tower bridge
    road shop school farm zoo store kitchen nest cave island needle button crayon paint picture
    bubble balloon blanket pillow
    """.split()
)


def encode(tok, conversation, bos, start, end):
    """ChatML as the engine writes it: (ids, flags); a flag is set where a token is learned."""
    ids, learn = [bos], [False]
    for role, text in conversation:
        ids.append(start)
        learn.append(False)
        if role == "assistant":
            head = tok.encode("assistant\n")
            body = tok.encode("assistant\n" + text)
            ids += body + [end]
            learn += [i >= len(head) for i in range(len(body))] + [True]
        else:
            body = tok.encode(role + "\n" + text)
            ids += body + [end]
            learn += [False] * (len(body) + 1)
        line = tok.encode("\n")
        ids += line
        learn += [False] * len(line)
    return ids, learn
