# SPDX-License-Identifier: Apache-2.0
"""Word lists of the generated pairs. Written for this project."""

# action: ways to say it. Actions of one row are opposites or neighbours that must not be confused.
ACTIONS = [
    [["enable", "turn on", "switch on", "activate"], ["disable", "turn off", "switch off", "deactivate"]],
    [["install", "set up"], ["uninstall", "remove"], ["update", "upgrade"], ["downgrade", "roll back"]],
    [["create", "make", "add"], ["delete", "erase", "get rid of"], ["rename"], ["copy", "duplicate"]],
    [["open", "launch"], ["close", "quit"], ["restart", "reboot"]],
    [["increase", "raise"], ["decrease", "lower", "reduce"]],
    [["import", "load in"], ["export", "save out"]],
    [["lock"], ["unlock"]], [["show", "display"], ["hide"]],
    [["connect", "hook up"], ["disconnect", "unplug"]],
    [["upload"], ["download"]], [["encrypt"], ["decrypt"]],
    [["subscribe to", "sign up for"], ["cancel", "unsubscribe from"], ["renew", "extend"], ["pause"]],
    [["buy", "purchase"], ["sell"], ["rent", "lease"], ["return", "send back"]],
    [["start", "begin"], ["stop", "end"]], [["sort"], ["filter"], ["search"]],
    [["reset", "restore"], ["change", "modify", "edit"], ["check", "verify"]],
    [["schedule", "plan"], ["postpone", "delay"]], [["share"], ["unshare", "stop sharing"]],
    [["mute", "silence"], ["unmute"]], [["block"], ["unblock"]], [["compress", "zip"], ["extract", "unzip"]],
]
THINGS = [
    ["password", "passcode"], ["two-factor authentication", "2FA", "two-step verification"],
    ["email notifications", "e-mail alerts"], ["account", "user account"], ["cache"], ["firewall"],
    ["dark mode", "dark theme"], ["automatic updates", "auto-updates"], ["backup", "back-up copy"],
    ["subscription", "plan"], ["invoice", "bill"], ["shipping address", "delivery address"],
    ["credit card", "card on file"], ["database", "DB"], ["log files", "logs"], ["printer"],
    ["wifi", "wireless network"], ["bluetooth"], ["location sharing"], ["screen lock"],
    ["virtual machine", "VM"], ["docker container", "container"], ["branch", "git branch"],
    ["API key", "API token"], ["webhook"], ["email address", "e-mail address"], ["phone number"],
    ["calendar event", "appointment"], ["meeting", "call"], ["playlist"], ["photo album"],
    ["spreadsheet", "sheet"], ["comment"], ["chat history", "conversation history"], ["browser cookies", "cookies"],
    ["VPN"], ["alarm"], ["thermostat"], ["savings account"], ["insurance policy"], ["flight booking", "flight reservation"],
    ["hotel room", "hotel booking"], ["car", "vehicle"], ["order"], ["gift card", "gift voucher"],
]
PLACES = [
    "", "", "", "", " on my phone", " on Windows", " on a Mac", " on Linux", " in the app", " on the website",
    " on Android", " on an iPhone", " for my team", " for one user", " for all users", " at work",
    " without losing data", " from the command line", " in the settings", " before the trial ends",
]
FRAMES = [
    "how do i {x}", "how can i {x}", "how to {x}", "what is the way to {x}", "how would one {x}",
    "can you tell me how to {x}", "please explain how to {x}", "i want to {x}, how does that work",
    "what steps do i take to {x}", "show me how to {x}", "i need to {x}", "is there a way to {x}",
    "what do i have to do to {x}", "help me {x}", "steps to {x}",
]
# Facts: {a} of {b}. Neighbours are other attributes and other entities.
ATTRIBUTES = [
    ["the capital of {e}", "{e}'s capital city", "the capital city of {e}"],
    ["the population of {e}", "how many people live in {e}", "the number of inhabitants of {e}"],
    ["the currency of {e}", "{e}'s money", "the currency used in {e}"],
    ["the area of {e}", "how large {e} is", "the size of {e}"],
    ["the official language of {e}", "the language they speak in {e}"],
    ["the weather in {e}", "the current weather for {e}"],
    ["the time in {e}", "what time it is in {e}"],
    ["the president of {e}", "who leads {e}"],
    ["the best time to visit {e}", "when to travel to {e}"],
    ["the distance to {e}", "how far away {e} is"],
]
FACT_FRAMES = ["what is {x}", "tell me {x}", "do you know {x}", "i would like to know {x}", "please give me {x}", "{x}"]
ENTITIES = [
    "France", "Germany", "Norway", "Brazil", "India", "China", "Japan", "Kenya", "Egypt", "Canada", "Chile",
    "Australia", "Austria", "Poland", "Spain", "Italy", "Paris", "London", "Berlin", "Rome", "Madrid", "Oslo",
    "Vienna", "Cairo", "Delhi", "Tokyo", "Beijing", "Toronto", "Chicago", "Boston", "Sydney", "Lima",
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "January", "February",
    "March", "April", "June", "July", "August", "September", "October", "November", "December",
    "Windows", "Linux", "Android", "iPhone", "Python", "Java", "JavaScript", "Rust", "Postgres", "MySQL",
    "Apple", "Google", "Microsoft", "Amazon", "Visa", "Mastercard", "Spanish", "French", "German", "Italian",
]
NUMBERED = [
    ["what is {n} plus {m}", "add {n} and {m}", "compute {n} + {m}"],
    ["convert {n} miles to kilometres", "how many kilometres are {n} miles", "{n} miles in km"],
    ["what is {n} percent of {m}", "compute {n}% of {m}"],
    ["set an alarm for {n} minutes", "wake me in {n} minutes"],
    ["transfer {n} dollars to savings", "move ${n} into my savings"],
    ["what happened in {y}", "tell me about the events of {y}"],
    ["convert {n} celsius to fahrenheit", "how much is {n} degrees celsius in fahrenheit"],
    ["book a table for {n} people", "reserve a table for a party of {n}"],
    ["give me {n} ideas for dinner", "suggest {n} dinner ideas"],
    ["explain error code {n}", "what does error {n} mean"],
]
ANTONYMS = [
    ("before", "after"), ("with", "without"), ("more", "less"), ("most", "least"), ("best", "worst"),
    ("first", "last"), ("up", "down"), ("left", "right"), ("open", "closed"), ("old", "new"), ("old", "young"),
    ("high", "low"), ("big", "small"), ("large", "small"), ("fast", "slow"), ("hot", "cold"), ("early", "late"),
    ("buy", "sell"), ("send", "receive"), ("win", "lose"), ("increase", "decrease"), ("include", "exclude"),
    ("maximum", "minimum"), ("always", "never"), ("gain", "lose"), ("import", "export"), ("safe", "dangerous"),
    ("legal", "illegal"), ("possible", "impossible"), ("true", "false"), ("cheap", "expensive"), ("day", "night"),
    ("ascending", "descending"), ("public", "private"), ("upload", "download"), ("income", "expense"),
    ("borrow", "lend"), ("arrive", "leave"), ("accept", "reject"), ("allow", "forbid"), ("credit", "debit"),
    ("freeze", "unfreeze"), ("deposit", "withdraw"), ("start", "stop"), ("find", "lose"), ("push", "pull"),
]
CONTRACTIONS = [
    ("what is", "what's"), ("do not", "don't"), ("cannot", "can't"), ("i am", "i'm"), ("it is", "it's"),
    ("how is", "how's"), ("who is", "who's"), ("is not", "isn't"), ("does not", "doesn't"), ("i have", "i've"),
    ("i would", "i'd"), ("where is", "where's"), ("will not", "won't"), ("let us", "let's"),
]
POLITE = ["please ", "hi, ", "hello, ", "hey ", "quick question: ", "could you tell me ", "i was wondering, "]
