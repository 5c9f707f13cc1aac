# SPDX-License-Identifier: Apache-2.0
"""What people ask about anything: intents, each with the ways of putting it. Written for this project.

An intent is (kinds of filler, ways). Two ways with one filler ask the same; the same way with another filler of
the kind, or another intent with the same filler, does not. {x} is the filler; {x} and {y} are two of a kind.
In PAIRS x and y may change places ("the difference between"); in DIRECTED that is another question."""

KINDS = {
    "skill": """English|Spanish|French|German|Japanese|Chinese|Arabic|Python|Java|JavaScript|C++|SQL|Rust|machine learning|
data science|statistics|calculus|linear algebra|physics|chemistry|biology|accounting|marketing|public speaking|
creative writing|web development|Android development|game design|graphic design|video editing|photography|drawing|
painting|the guitar|the piano|the violin|singing|dancing|swimming|yoga|chess|poker|cooking|baking|driving|trading stocks|
negotiation|time management|speed reading|touch typing|sign language|meditation|knitting|gardening|skiing|boxing""",
    "product": """iPhone|Android phone|MacBook|Windows laptop|gaming laptop|tablet|smartwatch|printer|router|camera|
headphones|television|refrigerator|washing machine|air conditioner|microwave|vacuum cleaner|electric car|motorcycle|
bicycle|mattress|office chair|hard drive|graphics card|keyboard|projector|drone|3D printer|solar panel|generator""",
    "app": """WhatsApp|Instagram|Facebook|Twitter|YouTube|Gmail|Outlook|Google Maps|Netflix|Spotify|Uber|Amazon|PayPal|eBay|
LinkedIn|Snapchat|Skype|Zoom|Slack|Dropbox|GitHub|Excel|Word|PowerPoint|Photoshop|Firefox|Chrome|Safari|Linux|Ubuntu|
Windows 10|Docker|Kubernetes|Jenkins|Postgres|MySQL|MongoDB|Redis|Reddit|Pinterest|Telegram|Tinder|TikTok|Steam""",
    "place": """France|Germany|Norway|Brazil|India|China|Japan|Kenya|Egypt|Canada|Chile|Australia|Austria|Poland|Spain|Italy|
Mexico|Russia|Turkey|Greece|Thailand|Vietnam|Indonesia|Pakistan|Nigeria|South Africa|Argentina|Sweden|Finland|Portugal|
the United States|the UK|Ireland|Scotland|New Zealand|Singapore|Malaysia|Iran|Israel|Ukraine|Paris|London|Berlin|Rome|
Madrid|Tokyo|Beijing|Delhi|Mumbai|Bangalore|Toronto|Chicago|Boston|Sydney|New York|Los Angeles|San Francisco|Texas|
California|Florida|Dubai|Hong Kong|Cairo|Moscow""",
    "health": """acne|dandruff|hair loss|back pain|a headache|migraine|insomnia|anxiety|depression|stress|asthma|diabetes|
high blood pressure|a cold|the flu|a fever|a sore throat|a cough|allergies|heartburn|constipation|food poisoning|
dry skin|dark circles|bad breath|a toothache|knee pain|a sunburn|obesity|anemia|arthritis|snoring|nausea|dizziness""",
    "food": """rice|pasta|bread|pizza|soup|salad|chicken|beef|fish|shrimp|eggs|tofu|potatoes|beans|lentils|cheese|yogurt|
chocolate cake|apple pie|cookies|pancakes|coffee|green tea|wine|beer|honey|butter|olive oil|avocado|bananas|mangoes|
garlic|onions|mushrooms|spinach|broccoli|oatmeal|peanut butter|ice cream|sushi""",
    "job": """a pilot|a doctor|a nurse|a lawyer|a teacher|a software engineer|a data scientist|a web developer|an accountant|
an architect|an actor|a writer|a journalist|a photographer|a chef|a police officer|a firefighter|a soldier|a scientist|
a psychologist|a dentist|a pharmacist|an electrician|a plumber|a mechanic|a translator|a real estate agent|
an investment banker|a product manager|a consultant|an entrepreneur|a designer|a musician|an astronaut|a veterinarian""",
    "field": """economics|philosophy|psychology|history|astronomy|quantum mechanics|relativity|thermodynamics|evolution|
genetics|neuroscience|geology|politics|democracy|capitalism|communism|inflation|globalization|cryptocurrency|bitcoin|
blockchain|artificial intelligence|neural networks|cloud computing|big data|cybersecurity|encryption|nuclear energy|
climate change|global warming|gravity|dark matter|black holes|photosynthesis|DNA|vaccines|antibiotics|the immune system|
the stock market|mutual funds|income tax|insurance|mortgages|patents|copyright|human rights|feminism|religion|Buddhism|
Islam|Christianity|Hinduism|the Roman Empire|the Cold War|World War I|World War II|the French Revolution|slavery""",
    "firm": """Google|Apple|Microsoft|Amazon|Facebook|Tesla|Netflix|Intel|IBM|Oracle|Samsung|Sony|Nike|Adidas|Toyota|BMW|
Walmart|Starbucks|McDonald's|Goldman Sachs|McKinsey|Deloitte|Boeing|Airbus|NASA|Harvard|Stanford|MIT|Oxford|Cambridge""",
    "animal": """dog|cat|horse|rabbit|hamster|parrot|goldfish|turtle|snake|lizard|puppy|kitten|guinea pig|chicken|goat|cow|
elephant|tiger|lion|bear|wolf|shark|whale|dolphin|eagle|owl|bee|spider|ant|penguin""",
    "person": """my boyfriend|my girlfriend|my wife|my husband|my boss|my best friend|my brother|my sister|my mother|
my father|my neighbour|my roommate|my coworker|my teacher|my ex|my son|my daughter|my landlord""",
    "habit": """smoking|drinking|procrastinating|biting my nails|overthinking|worrying|eating sugar|playing video games|
watching TV|wasting time|using my phone|being shy|being lazy|getting angry|lying|gossiping|sleeping late|overeating""",
    "goal": """lose weight|gain weight|build muscle|save money|make money online|find a job|write a book|start a business|
get good grades|make friends|sleep better|wake up early|improve my memory|read faster|run faster|grow taller|
get rid of debt|get rich|be happy|stay motivated|pass an exam|buy a house|sell a car|rent an apartment|learn to code|
get a scholarship|write a resume|prepare for an interview|publish an app|invest in stocks|become more confident|
improve my English|study abroad|travel the world|grow tomatoes|train a dog|quit my job|lower my rent|fix my credit score""",
    "issue": """won't turn on|keeps crashing|is very slow|is overheating|won't charge|makes a strange noise|won't connect to wifi|
has no sound|shows a black screen|freezes|won't update|turns off by itself|shows an error|loses its connection""",
}

INTENTS = [
    (["skill"], ["how do i learn {x}", "what is the best way to learn {x}", "how can i start learning {x}", "how should i go about learning {x}",
                 "how can one learn {x}", "what's the most effective way of learning {x}", "where do i begin if i want to learn {x}"]),
    (["skill"], ["what are the best books to learn {x}", "which books are good for learning {x}", "which book should i read to learn {x}",
                 "can you recommend a book on {x}", "what is the best book for {x}"]),
    (["skill"], ["what are the best websites to learn {x}", "which sites are good for learning {x} online", "where can i learn {x} online",
                 "what is a good online resource for {x}"]),
    (["skill"], ["how long does it take to learn {x}", "how much time do i need to learn {x}", "in how many months can one learn {x}"]),
    (["skill"], ["is it hard to learn {x}", "how difficult is {x} to learn", "is learning {x} difficult", "how hard is it to learn {x}"]),
    (["skill"], ["is it worth learning {x}", "should i learn {x}", "why should i learn {x}", "are there good reasons to learn {x}"]),
    (["skill"], ["how do i get better at {x}", "how can i improve at {x}", "what can i do to improve my {x} skills", "tips for improving at {x}"]),
    (["skill"], ["how do i teach {x} to children", "what is the best way to teach kids {x}", "how can children be taught {x}"]),
    (["skill"], ["can i learn {x} by myself", "is it possible to teach yourself {x}", "can {x} be self-taught", "can you learn {x} without a teacher"]),
    (["product"], ["what is the best {x} to buy", "which {x} should i buy", "can you recommend a good {x}", "what's a good {x} to get", "which is the best {x}"]),
    (["product"], ["what is the best cheap {x}", "which {x} is best on a small budget", "what is a good low-cost {x}"]),
    (["product"], ["how does a {x} work", "what is the working principle of a {x}", "how do {x}s work", "can you explain how a {x} works"]),
    (["product"], ["how do i clean a {x}", "what is the best way to clean a {x}", "how should a {x} be cleaned"]),
    (["product"], ["how much does a {x} cost", "what is the price of a {x}", "how expensive is a {x}", "what does a {x} cost"]),
    (["product"], ["how do i repair a broken {x}", "how can i fix my {x}", "my {x} is broken, how do i fix it", "what is the way to repair a {x}"]),
    (["product"], ["where can i sell my old {x}", "what is the best place to sell a used {x}", "how do i sell a second-hand {x}"]),
    (["product"], ["how long does a {x} last", "what is the lifespan of a {x}", "after how many years should a {x} be replaced"]),
    (["product"], ["what should i look for when buying a {x}", "what do i need to know before buying a {x}", "what is important when choosing a {x}"]),
    (["app"], ["how do i delete my {x} account", "how can i permanently delete a {x} account", "what is the way to close my {x} account", "how to remove my account from {x}"]),
    (["app"], ["how do i create a {x} account", "how can i sign up for {x}", "how to make an account on {x}", "how do i register on {x}"]),
    (["app"], ["how do i reset my {x} password", "i forgot my {x} password, how do i recover it", "how can i recover my {x} password", "what do i do if i forgot the password of {x}"]),
    (["app"], ["how do i change my {x} password", "how can i set a new password on {x}", "how to update the password of my {x} account"]),
    (["app"], ["how does {x} make money", "what is the business model of {x}", "how does {x} earn its revenue", "where does {x}'s income come from"]),
    (["app"], ["what are the best alternatives to {x}", "what can i use instead of {x}", "is there something better than {x}", "which apps are like {x}"]),
    (["app"], ["how do i install {x}", "how can i get {x} on my computer", "what are the steps to install {x}"]),
    (["app"], ["how do i uninstall {x}", "how can i remove {x} from my computer", "how to completely remove {x}"]),
    (["app"], ["is {x} safe to use", "how secure is {x}", "is it safe to use {x}", "can {x} be trusted"]),
    (["app"], ["is {x} free", "do i have to pay for {x}", "does {x} cost anything", "can i use {x} for free"]),
    (["app"], ["who invented {x}", "who created {x}", "who is the founder of {x}", "who started {x}"]),
    (["app"], ["what are some tips and tricks for {x}", "what are the best tricks in {x}", "what are some lesser known features of {x}"]),
    (["app"], ["why is {x} not working", "what should i do if {x} does not work", "why doesn't {x} work for me"]),
    (["app"], ["how do i contact {x} support", "how can i reach the customer service of {x}", "what is the phone number of {x} customer support"]),
    (["app"], ["how do i block someone on {x}", "how can i block a person on {x}", "how to stop someone from contacting me on {x}"]),
    (["app"], ["how do i know if someone blocked me on {x}", "how can i tell that i have been blocked on {x}", "what are the signs of being blocked on {x}"]),
    (["place"], ["what are the best places to visit in {x}", "which places should i see in {x}", "what are the must-see places in {x}", "what should a tourist see in {x}"]),
    (["place"], ["what is the best time to visit {x}", "when should i go to {x}", "which month is best for a trip to {x}", "when is the right season to visit {x}"]),
    (["place"], ["what is it like to live in {x}", "how is life in {x}", "what does living in {x} feel like"]),
    (["place"], ["how much does it cost to live in {x}", "what is the cost of living in {x}", "how expensive is life in {x}"]),
    (["place"], ["how do i get a job in {x}", "how can a foreigner find work in {x}", "what is the way to find a job in {x}"]),
    (["place"], ["is {x} safe for tourists", "how safe is it to travel to {x}", "is it dangerous to visit {x}", "is {x} a safe place to travel to"]),
    (["place"], ["how do i move to {x}", "how can i immigrate to {x}", "what is the easiest way to emigrate to {x}"]),
    (["place"], ["which are the best universities in {x}", "what are the top colleges in {x}", "what is the best university in {x}"]),
    (["place"], ["what food is {x} famous for", "what should i eat in {x}", "what are the best dishes in {x}", "which foods are typical of {x}"]),
    (["place"], ["do i need a visa for {x}", "is a visa required to enter {x}", "can i travel to {x} without a visa"]),
    (["place"], ["why is {x} so expensive", "why are prices so high in {x}", "what makes {x} so expensive"]),
    (["place"], ["what do people in {x} think of Americans", "how are Americans seen in {x}", "what is the opinion about Americans in {x}"]),
    (["place"], ["what is the weather like in {x}", "how is the climate of {x}", "what kind of climate does {x} have"]),
    (["health"], ["how do i get rid of {x}", "what is the best cure for {x}", "how can i treat {x}", "what is the best treatment for {x}", "how to cure {x}"]),
    (["health"], ["what causes {x}", "what is the cause of {x}", "why do people get {x}", "what are the reasons for {x}"]),
    (["health"], ["what are the symptoms of {x}", "how do i know if i have {x}", "what are the signs of {x}", "how is {x} recognised"]),
    (["health"], ["how can i prevent {x}", "how do i avoid getting {x}", "what can be done to prevent {x}"]),
    (["health"], ["what are home remedies for {x}", "how can {x} be treated naturally", "are there natural remedies for {x}"]),
    (["health"], ["what should i eat if i have {x}", "which foods help against {x}", "what is a good diet for {x}"]),
    (["health"], ["is {x} dangerous", "how serious is {x}", "can you die of {x}"]),
    (["health"], ["is {x} hereditary", "is {x} genetic", "can {x} be inherited"]),
    (["food"], ["how do i cook {x}", "what is the best way to make {x}", "how is {x} prepared", "how should i prepare {x}", "what is a good recipe for {x}"]),
    (["food"], ["is {x} healthy", "is {x} good for you", "is it healthy to eat {x}", "how healthy is {x}"]),
    (["food"], ["what are the health benefits of {x}", "why is {x} good for health", "what are the advantages of eating {x}"]),
    (["food"], ["what are the side effects of {x}", "is too much {x} bad for you", "what harm can {x} do", "what are the disadvantages of eating {x}"]),
    (["food"], ["how many calories are in {x}", "how many calories does {x} have", "what is the calorie content of {x}"]),
    (["food"], ["how long does {x} keep in the fridge", "how long can i store {x}", "when does {x} go bad"]),
    (["food"], ["can dogs eat {x}", "is {x} safe for dogs", "may i feed {x} to my dog"]),
    (["food"], ["does {x} make you fat", "can you gain weight from {x}", "does eating {x} lead to weight gain"]),
    (["food"], ["does {x} help you lose weight", "is {x} good for weight loss", "can i lose weight by eating {x}"]),
    (["job"], ["how do i become {x}", "what do i have to do to become {x}", "what are the steps to becoming {x}", "what is the path to becoming {x}", "what does it take to become {x}"]),
    (["job"], ["how much does {x} earn", "what is the salary of {x}", "how much money does {x} make", "what is the average income of {x}"]),
    (["job"], ["what is it like to be {x}", "how does it feel to be {x}", "what is the life of {x} like"]),
    (["job"], ["what does {x} do all day", "what are the duties of {x}", "what is the daily work of {x}"]),
    (["job"], ["what should i study to become {x}", "which degree do i need to be {x}", "what qualification is needed to work as {x}"]),
    (["job"], ["is being {x} a good career", "should i become {x}", "is it worth becoming {x}"]),
    (["job"], ["what skills does {x} need", "which skills are required of {x}", "what must {x} be good at"]),
    (["field"], ["what is {x}", "can you explain {x}", "what exactly is {x}", "what is meant by {x}", "what is {x} in simple words", "how would you explain {x} to a child"]),
    (["field"], ["what are the advantages of {x}", "what are the benefits of {x}", "what is good about {x}", "what are the pros of {x}"]),
    (["field"], ["what are the disadvantages of {x}", "what are the drawbacks of {x}", "what is bad about {x}", "what are the cons of {x}"]),
    (["field"], ["what is the history of {x}", "how did {x} begin", "what are the origins of {x}", "how did {x} come about"]),
    (["field"], ["what is the future of {x}", "how will {x} develop", "what will {x} look like in ten years"]),
    (["field"], ["why is {x} important", "what is the importance of {x}", "why does {x} matter", "why should we care about {x}"]),
    (["field"], ["what are the best books about {x}", "which books on {x} are worth reading", "what should i read to understand {x}"]),
    (["field"], ["what are some examples of {x}", "can you give an example of {x}", "what is a good example of {x}"]),
    (["field"], ["how does {x} work", "what is the principle of {x}", "how exactly does {x} function"]),
    (["field"], ["what are the effects of {x} on society", "how does {x} affect our lives", "what impact does {x} have on people"]),
    (["field"], ["what do you think about {x}", "what is your opinion on {x}", "what are your views on {x}", "how do you feel about {x}"]),
    (["field"], ["what are common misconceptions about {x}", "what do people get wrong about {x}", "which myths about {x} are false"]),
    (["firm"], ["how do i get a job at {x}", "how can i get hired by {x}", "what does it take to work at {x}", "how do i land a job with {x}"]),
    (["firm"], ["what is it like to work at {x}", "how is it to work for {x}", "what is the working culture at {x}"]),
    (["firm"], ["how do i get an internship at {x}", "how can i become an intern at {x}", "what is the way to get an internship with {x}"]),
    (["firm"], ["what questions are asked in a {x} interview", "how do i prepare for an interview at {x}", "what are typical interview questions at {x}"]),
    (["firm"], ["why is {x} so successful", "what is the reason for the success of {x}", "what made {x} so successful"]),
    (["firm"], ["who owns {x}", "who is the owner of {x}", "whom does {x} belong to"]),
    (["firm"], ["what is the worst thing about {x}", "what are the problems of {x}", "why do people hate {x}"]),
    (["firm"], ["what is the net worth of {x}", "how much is {x} worth", "what is the value of {x}"]),
    (["animal"], ["how do i take care of a {x}", "what does a {x} need", "how should i look after a {x}", "what is the right care for a {x}"]),
    (["animal"], ["what should i feed a {x}", "what do {x}s eat", "what is the diet of a {x}", "what is the best food for a {x}"]),
    (["animal"], ["how long does a {x} live", "what is the lifespan of a {x}", "how old do {x}s get", "what is the life expectancy of a {x}"]),
    (["animal"], ["how do i train a {x}", "what is the best way to train a {x}", "can a {x} be trained"]),
    (["animal"], ["are {x}s dangerous", "can a {x} hurt a human", "is a {x} dangerous to people"]),
    (["animal"], ["how intelligent is a {x}", "are {x}s smart", "how clever are {x}s"]),
    (["animal"], ["what should i name my {x}", "what is a good name for a {x}", "can you suggest names for my {x}"]),
    (["animal"], ["do {x}s sleep", "how many hours does a {x} sleep", "how much sleep does a {x} need"]),
    (["person"], ["how do i know if {x} is lying to me", "how can i tell when {x} lies", "what are signs that {x} is lying"]),
    (["person"], ["what should i give {x} for a birthday", "what is a good birthday present for {x}", "what gift should i buy for {x}"]),
    (["person"], ["how do i apologise to {x}", "what is the best way to say sorry to {x}", "how can i make {x} forgive me"]),
    (["person"], ["how do i deal with {x} ignoring me", "what should i do if {x} ignores me", "why is {x} ignoring me"]),
    (["person"], ["how do i stop arguing with {x}", "how can i avoid fights with {x}", "what can i do against constant arguments with {x}"]),
    (["person"], ["how can i make {x} happy", "what can i do to make {x} happy", "how do i cheer up {x}"]),
    (["person"], ["how do i tell {x} that i am unhappy", "how should i tell {x} i'm not happy", "what is the way to admit to {x} that i am unhappy"]),
    (["person"], ["how do i earn the trust of {x}", "how can i make {x} trust me", "what should i do to win {x}'s trust"]),
    (["habit"], ["how do i stop {x}", "how can i quit {x}", "what is the best way to stop {x}", "what can i do to stop {x}", "how do i break the habit of {x}"]),
    (["habit"], ["why am i always {x}", "what is the reason that i keep {x}", "why can't i stop {x}"]),
    (["habit"], ["is {x} bad for me", "how harmful is {x}", "what are the bad effects of {x}"]),
    (["goal"], ["how do i {x}", "how can i {x}", "what is the best way to {x}", "what should i do to {x}", "what are some ways to {x}", "i want to {x}, what should i do",
                "what's the easiest way to {x}", "how does one {x}"]),
    (["goal"], ["how long does it take to {x}", "how much time does one need to {x}", "how fast can i {x}"]),
    (["goal"], ["is it possible to {x}", "can anyone {x}", "can i really {x}"]),
    (["goal"], ["why is it so hard to {x}", "what makes it so difficult to {x}", "why do i find it hard to {x}", "why can't i {x}"]),
    (["goal"], ["what mistakes should i avoid when trying to {x}", "what are common mistakes of people who want to {x}", "what should one not do to {x}"]),
    (["goal"], ["is it a good idea to {x}", "should i {x}", "is it worthwhile to {x}"]),
    (["goal"], ["how can i {x} without spending money", "how do i {x} for free", "is there a free way to {x}"]),
    (["goal"], ["how do i {x} quickly", "what is the fastest way to {x}", "how can i {x} in a short time"]),
    (["goal"], ["how can a teenager {x}", "how do i {x} as a teenager", "what should teens do to {x}"]),
    (["goal"], ["how did you {x}", "how did you manage to {x}", "what helped you to {x}"]),
]

# Two fillers of a kind.
PAIRS = [
    (["skill", "product", "app", "place", "field", "food", "firm", "animal"],
     ["what is the difference between {x} and {y}", "how do {x} and {y} differ", "how is {x} different from {y}", "what distinguishes {x} from {y}",
      "what are the differences between {x} and {y}"]),
    (["skill", "product", "app", "place", "food", "firm"],
     ["which is better, {x} or {y}", "is {x} better than {y}", "what is better: {x} or {y}", "should i choose {x} or {y}", "{x} vs {y}: which one is better"]),
    (["skill", "field", "firm", "place", "app"],
     ["what do {x} and {y} have in common", "what are the similarities between {x} and {y}", "how are {x} and {y} similar"]),
]
DIRECTED = [
    (["place"], ["how do i get from {x} to {y}", "what is the best way to travel from {x} to {y}", "how can i go from {x} to {y}"]),
    (["place"], ["how long is the flight from {x} to {y}", "how many hours does it take to fly from {x} to {y}"]),
    (["app"], ["how do i move my data from {x} to {y}", "how can i transfer everything from {x} to {y}", "what is the way to migrate from {x} to {y}"]),
    (["app", "product", "skill"], ["why do people switch from {x} to {y}", "what are reasons to change from {x} to {y}", "should i switch from {x} to {y}"]),
    (["firm", "app"], ["why did {x} sue {y}", "what is the reason {x} took {y} to court"]),
    (["skill", "field"], ["do i need to know {x} to understand {y}", "is {x} required for {y}", "should i learn {x} before {y}"]),
    (["job"], ["how do i go from being {x} to being {y}", "can {x} become {y}", "how can {x} turn into {y}"]),
]
# Device and complaint.
TROUBLE = ["why does my {x} say it {i}", "my {x} {i}, what should i do", "what can i do when my {x} {i}", "how do i fix a {x} that {i}", "my {x} {i}, how do i fix it"]

# Narrows a question: with it and without it are two questions.
NARROW = [" in India", " in the US", " in Europe", " at home", " as a beginner", " after 40", " as a student", " without experience", " at night", " in 2016",
          " for a small company", " for kids", " during pregnancy", " in one week", " in 30 days", " in winter", " on a budget", " with no money", " at university"]
# Says nothing more.
LOOSE = [("what is", "what's"), ("how do i", "how can i"), ("how do i", "how to"), ("how can i", "how could i"), ("how do i", "how should i"), ("what are", "what are some of"),
         ("which", "what"), ("the best", "the very best"), ("can you", "could you"), ("is it", "is it really"), ("how do i", "what do i need to do to")]
# Says something beside the question.
CONTEXT = ["I am new to this.", "I am 20 years old.", "I have tried many things.", "I am a student.", "Please help.",
           "I live in a small town.", "I have no experience.", "Just curious.", "I could not find an answer.",
           "I've read a lot about it."]
