/* SPDX-License-Identifier: Apache-2.0
 * match/lexicon.h - the words facts.c knows. Included there only.
 *
 * Every table is sorted by strcmp; tests/unit/match/test_facts.c sees to it. Words are folded to small
 * letters. Verbs and adjectives stand in their base form (facts.c takes endings off), irregular forms
 * beside it. Words with two common meanings are left out where the wrong one would refuse too much;
 * what is missing is left to the pair verifier. Compiled by hand for this project from common knowledge
 * of English; negations of seven more languages and the words languages are told by, likewise.
 */
#ifndef LR_MATCH_LEXICON_H
#define LR_MATCH_LEXICON_H

struct word_number { /* a word and what it stands for */
    const char *word;
    uint32_t value;
};
struct word_pole { /* one end of an axis: words of different ends contradict each other */
    const char *word;
    uint16_t axis, end;
};

/* Antonyms: axis and end. */
static const struct word_pole poles[] = {
    {"above", 28, 0}, {"accept", 16, 0}, {"activate", 0, 0}, {"add", 2, 0}, {"administer", 60, 0},
    {"advantage", 17, 0}, {"after", 27, 1}, {"alive", 68, 0}, {"allow", 15, 0}, {"append", 2, 0},
    {"approve", 16, 0}, {"arrival", 67, 0}, {"arrive", 67, 0}, {"ascending", 49, 0},
    {"async", 79, 1}, {"asynchronous", 79, 1}, {"attach", 2, 0}, {"authorize", 15, 0},
    {"bad", 20, 1}, {"ban", 15, 1}, {"before", 27, 0}, {"began", 4, 0}, {"begin", 4, 0},
    {"below", 28, 1}, {"beneath", 28, 1}, {"benefit", 17, 0}, {"best", 18, 0}, {"better", 19, 0},
    {"big", 38, 0}, {"bigger", 38, 0}, {"biggest", 38, 0}, {"birth", 68, 0}, {"blacklist", 15, 1},
    {"block", 15, 1}, {"boost", 1, 0}, {"born", 68, 0}, {"borrow", 66, 1}, {"bought", 13, 0},
    {"boy", 30, 0}, {"boys", 30, 0}, {"bright", 73, 0}, {"brother", 30, 0}, {"build", 75, 0},
    {"buy", 13, 0}, {"cancel", 4, 1}, {"cheap", 21, 0}, {"chill", 22, 1}, {"close", 3, 1},
    {"cold", 22, 1}, {"collapse", 78, 1}, {"commence", 4, 0}, {"compress", 12, 0}, {"con", 17, 1},
    {"connect", 6, 0}, {"construct", 75, 0}, {"cool", 22, 1}, {"costly", 21, 1},
    {"create", 75, 0}, {"dangerous", 32, 1}, {"dark", 73, 1}, {"daughter", 30, 1},
    {"deactivate", 0, 1}, {"dead", 68, 1}, {"death", 68, 1}, {"decline", 16, 1},
    {"decode", 11, 1}, {"decompress", 12, 1}, {"decrease", 1, 1}, {"decrypt", 10, 1},
    {"delete", 2, 1}, {"demerit", 17, 1}, {"demolish", 75, 1}, {"deny", 15, 1}, {"depart", 67, 1},
    {"departure", 67, 1}, {"deposit", 65, 0}, {"descending", 49, 1}, {"deserialize", 11, 1},
    {"destroy", 75, 1}, {"detach", 2, 1}, {"died", 68, 1}, {"difficult", 46, 1},
    {"disable", 0, 1}, {"disadvantage", 17, 1}, {"discard", 61, 1}, {"disconnect", 6, 1},
    {"dislike", 44, 1}, {"divorce", 48, 1}, {"download", 8, 1}, {"downside", 17, 1},
    {"drawback", 17, 1}, {"drop", 1, 1}, {"dry", 71, 1}, {"dynamic", 80, 1}, {"earlier", 37, 0},
    {"early", 37, 0}, {"easier", 46, 0}, {"east", 56, 0}, {"eastern", 56, 0}, {"easy", 46, 0},
    {"empty", 72, 1}, {"enable", 0, 0}, {"encode", 11, 0}, {"encrypt", 10, 0}, {"end", 4, 1},
    {"enter", 77, 0}, {"erase", 2, 1}, {"even", 70, 0}, {"exclude", 2, 1}, {"exit", 77, 1},
    {"expand", 78, 0}, {"expensive", 21, 1}, {"export", 9, 1}, {"external", 53, 1},
    {"extract", 12, 1}, {"fall", 1, 1}, {"false", 34, 1}, {"fast", 39, 0}, {"faster", 39, 0},
    {"fastest", 39, 0}, {"father", 30, 0}, {"fell", 1, 1}, {"female", 30, 1}, {"fewer", 24, 1},
    {"fewest", 25, 1}, {"finish", 4, 1}, {"fire", 47, 1}, {"first", 57, 0}, {"follow", 62, 0},
    {"forbid", 15, 1}, {"freeze", 59, 0}, {"full", 72, 0}, {"gain", 1, 0}, {"girl", 30, 1},
    {"girls", 30, 1}, {"good", 20, 0}, {"grant", 76, 0}, {"grew", 1, 0}, {"grow", 1, 0},
    {"halt", 4, 1}, {"happy", 45, 0}, {"hard", 46, 1}, {"harder", 46, 1}, {"hate", 43, 1},
    {"he", 30, 0}, {"heat", 22, 0}, {"her", 30, 1}, {"hers", 30, 1}, {"hide", 63, 1},
    {"high", 23, 0}, {"highest", 23, 0}, {"him", 30, 0}, {"hire", 47, 0}, {"his", 30, 0},
    {"horizontal", 50, 0}, {"hot", 22, 0}, {"huge", 38, 0}, {"husband", 30, 0},
    {"illegal", 31, 1}, {"import", 9, 0}, {"impossible", 33, 1}, {"include", 2, 0},
    {"increase", 1, 0}, {"indoor", 53, 0}, {"inexpensive", 21, 0}, {"input", 51, 0},
    {"insecure", 32, 1}, {"insert", 2, 0}, {"inside", 53, 0}, {"install", 5, 0},
    {"internal", 53, 0}, {"join", 77, 0}, {"keep", 61, 0}, {"large", 38, 0}, {"larger", 38, 0},
    {"largest", 38, 0}, {"last", 57, 1}, {"late", 37, 1}, {"later", 37, 1}, {"launch", 4, 0},
    {"lawful", 31, 0}, {"lead", 81, 0}, {"least", 25, 1}, {"leave", 77, 1}, {"left", 29, 0},
    {"legal", 31, 0}, {"lend", 66, 0}, {"less", 24, 1}, {"light", 73, 0}, {"like", 44, 0},
    {"link", 6, 0}, {"little", 38, 1}, {"local", 54, 0}, {"lock", 7, 0}, {"lose", 1, 1},
    {"lost", 36, 1}, {"loud", 74, 1}, {"love", 43, 0}, {"low", 23, 1}, {"lower", 1, 1},
    {"lowest", 23, 1}, {"male", 30, 0}, {"man", 30, 0}, {"marry", 48, 0}, {"max", 26, 0},
    {"maximize", 26, 0}, {"maximum", 26, 0}, {"men", 30, 0}, {"merit", 17, 0}, {"min", 26, 1},
    {"minimize", 26, 1}, {"minimum", 26, 1}, {"more", 24, 0}, {"most", 25, 0}, {"mother", 30, 1},
    {"mount", 69, 0}, {"mute", 64, 0}, {"narrow", 78, 1}, {"negative", 35, 1}, {"new", 40, 1},
    {"newer", 40, 1}, {"newest", 40, 1}, {"north", 55, 0}, {"northern", 55, 0}, {"odd", 70, 1},
    {"old", 40, 0}, {"older", 40, 0}, {"oldest", 40, 0}, {"open", 3, 0}, {"outdoor", 53, 1},
    {"output", 51, 1}, {"outside", 53, 1}, {"pack", 12, 0}, {"pause", 4, 1}, {"permit", 15, 0},
    {"poor", 42, 1}, {"pop", 58, 1}, {"positive", 35, 0}, {"possible", 33, 0}, {"prevent", 15, 1},
    {"prior", 27, 0}, {"private", 52, 1}, {"pro", 17, 0}, {"prohibit", 15, 1}, {"public", 52, 0},
    {"purchase", 13, 0}, {"push", 58, 0}, {"quick", 39, 0}, {"quit", 4, 1}, {"raise", 1, 0},
    {"rapid", 39, 0}, {"reactivate", 0, 0}, {"receive", 14, 1}, {"reconnect", 6, 0},
    {"reduce", 1, 1}, {"refuse", 16, 1}, {"reinstall", 5, 0}, {"reject", 16, 1},
    {"remote", 54, 1}, {"remove", 2, 1}, {"reopen", 3, 0}, {"resume", 4, 0}, {"reveal", 63, 0},
    {"revoke", 76, 1}, {"rich", 42, 0}, {"right", 29, 1}, {"rise", 1, 0}, {"rose", 1, 0},
    {"sad", 45, 1}, {"safe", 32, 0}, {"save", 61, 0}, {"secure", 32, 0}, {"sell", 13, 1},
    {"send", 14, 0}, {"sent", 14, 0}, {"serialize", 11, 0}, {"she", 30, 1}, {"short", 23, 1},
    {"shortest", 23, 1}, {"show", 63, 0}, {"shrink", 1, 1}, {"shut", 3, 1}, {"simple", 46, 0},
    {"sister", 30, 1}, {"slow", 39, 1}, {"slower", 39, 1}, {"slowest", 39, 1}, {"small", 38, 1},
    {"smaller", 38, 1}, {"smallest", 38, 1}, {"soft", 74, 0}, {"sold", 13, 1}, {"son", 30, 0},
    {"south", 55, 1}, {"southern", 55, 1}, {"start", 4, 0}, {"static", 80, 0}, {"stop", 4, 1},
    {"strong", 41, 0}, {"stronger", 41, 0}, {"subscribe", 62, 0}, {"sync", 79, 0},
    {"synchronous", 79, 0}, {"tall", 23, 0}, {"tallest", 23, 0}, {"thaw", 59, 1}, {"tiny", 38, 1},
    {"true", 34, 0}, {"unblock", 15, 0}, {"under", 28, 1}, {"unfollow", 62, 1},
    {"unfreeze", 59, 1}, {"unhappy", 45, 1}, {"unhide", 63, 0}, {"uninstall", 5, 1},
    {"unlawful", 31, 1}, {"unlink", 6, 1}, {"unlock", 7, 1}, {"unmount", 69, 1},
    {"unmute", 64, 1}, {"unpack", 12, 1}, {"unsafe", 32, 1}, {"unsubscribe", 62, 1},
    {"unzip", 12, 1}, {"upload", 8, 0}, {"upside", 17, 0}, {"vertical", 50, 1}, {"warm", 22, 0},
    {"weak", 41, 1}, {"weaker", 41, 1}, {"wealthy", 42, 0}, {"west", 56, 1}, {"western", 56, 1},
    {"wet", 71, 0}, {"whitelist", 15, 0}, {"widen", 78, 0}, {"wife", 30, 1}, {"win", 36, 0},
    {"withdraw", 65, 1}, {"withhold", 60, 1}, {"woman", 30, 1}, {"women", 30, 1}, {"won", 36, 0},
    {"worse", 19, 1}, {"worst", 18, 1}, {"young", 40, 1}, {"younger", 40, 1}, {"youngest", 40, 1},
    {"zip", 12, 0},
};

/* Units that are units wherever they stand. */
static const struct word_number units[] = {
    {"amp", 42}, {"ampere", 42}, {"amperes", 42}, {"amps", 42}, {"bit", 22}, {"bits", 22},
    {"byte", 21}, {"bytes", 21}, {"calorie", 39}, {"calories", 39}, {"celsius", 14},
    {"centigrade", 14}, {"centimeter", 3}, {"centimeters", 3}, {"centimetre", 3},
    {"centimetres", 3}, {"cm", 3}, {"cny", 28}, {"cup", 33}, {"cups", 33}, {"dollar", 23},
    {"dollars", 23}, {"eur", 24}, {"euro", 24}, {"euros", 24}, {"fahrenheit", 15}, {"feet", 6},
    {"foot", 6}, {"ft", 6}, {"gallon", 32}, {"gallons", 32}, {"gb", 19}, {"gbp", 25}, {"ghz", 46},
    {"gib", 19}, {"gigabyte", 19}, {"gigabytes", 19}, {"gram", 9}, {"grams", 9}, {"hertz", 43},
    {"hz", 43}, {"inch", 7}, {"inches", 7}, {"inr", 26}, {"joule", 40}, {"joules", 40},
    {"jpy", 27}, {"kb", 17}, {"kcal", 39}, {"kelvin", 16}, {"kg", 10}, {"kgs", 10}, {"khz", 44},
    {"kib", 17}, {"kilo", 10}, {"kilobyte", 17}, {"kilobytes", 17}, {"kilogram", 10},
    {"kilograms", 10}, {"kilometer", 2}, {"kilometers", 2}, {"kilometre", 2}, {"kilometres", 2},
    {"kilos", 10}, {"kilowatt", 37}, {"kilowatts", 37}, {"km", 2}, {"kmh", 35}, {"kms", 2},
    {"kph", 35}, {"kw", 37}, {"kwh", 38}, {"lb", 11}, {"lbs", 11}, {"liter", 30}, {"liters", 30},
    {"litre", 30}, {"litres", 30}, {"mb", 18}, {"megabyte", 18}, {"megabytes", 18}, {"meter", 1},
    {"meters", 1}, {"metre", 1}, {"metres", 1}, {"mhz", 45}, {"mi", 5}, {"mib", 18}, {"mile", 5},
    {"miles", 5}, {"milliliter", 31}, {"milliliters", 31}, {"millilitre", 31},
    {"millilitres", 31}, {"millimeter", 4}, {"millimeters", 4}, {"millimetre", 4},
    {"millimetres", 4}, {"ml", 31}, {"mm", 4}, {"mph", 34}, {"ounce", 12}, {"ounces", 12},
    {"oz", 12}, {"pct", 29}, {"percent", 29}, {"percentage", 29}, {"pound", 11}, {"pounds", 11},
    {"rmb", 28}, {"rs", 26}, {"rupee", 26}, {"rupees", 26}, {"sterling", 25}, {"tb", 20},
    {"terabyte", 20}, {"terabytes", 20}, {"tib", 20}, {"ton", 13}, {"tonne", 13}, {"tonnes", 13},
    {"tons", 13}, {"usd", 23}, {"volt", 41}, {"volts", 41}, {"watt", 36}, {"watts", 36},
    {"yard", 8}, {"yards", 8}, {"yen", 27}, {"yuan", 28},
};

/* Units only behind a number ("how many days" asks, it does not measure). */
static const struct word_number near_units[] = {
    {"acre", 108}, {"acres", 108}, {"day", 103}, {"days", 103}, {"degree", 107}, {"degrees", 107},
    {"g", 9}, {"hour", 102}, {"hours", 102}, {"hr", 102}, {"hrs", 102}, {"l", 30}, {"m", 1},
    {"min", 101}, {"mins", 101}, {"minute", 101}, {"minutes", 101}, {"month", 105},
    {"months", 105}, {"point", 109}, {"points", 109}, {"sec", 100}, {"second", 100},
    {"seconds", 100}, {"secs", 100}, {"t", 114}, {"week", 104}, {"weeks", 104}, {"year", 106},
    {"years", 106}, {"yr", 106}, {"yrs", 106},
};

/* "one", "first" and "second" are pronouns, adverbs and units too: not here. */
static const struct word_number numbers[] = {
    {"dozen", 12}, {"eight", 8}, {"eighteen", 18}, {"eighth", 8}, {"eighty", 80}, {"eleven", 11},
    {"fifteen", 15}, {"fifth", 5}, {"fifty", 50}, {"five", 5}, {"forty", 40}, {"four", 4},
    {"fourteen", 14}, {"fourth", 4}, {"nine", 9}, {"nineteen", 19}, {"ninety", 90}, {"ninth", 9},
    {"seven", 7}, {"seventeen", 17}, {"seventh", 7}, {"seventy", 70}, {"six", 6}, {"sixteen", 16},
    {"sixth", 6}, {"sixty", 60}, {"ten", 10}, {"tenth", 10}, {"third", 3}, {"thirteen", 13},
    {"thirty", 30}, {"three", 3}, {"twelve", 12}, {"twenty", 20}, {"two", 2}, {"zero", 0},
};

/* Multiply the number before them. */
static const struct word_number scales[] = {
    {"billion", 1000000000}, {"crore", 10000000}, {"hundred", 100}, {"lakh", 100000},
    {"million", 1000000}, {"thousand", 1000},
};

/* "march", "may" and short forms count beside a number or with a capital only. */
static const struct word_number months[] = {
    {"apr", 4}, {"april", 4}, {"aug", 8}, {"august", 8}, {"dec", 12}, {"december", 12},
    {"feb", 2}, {"february", 2}, {"jan", 1}, {"january", 1}, {"jul", 7}, {"july", 7}, {"jun", 6},
    {"june", 6}, {"mar", 3}, {"march", 3}, {"may", 5}, {"nov", 11}, {"november", 11}, {"oct", 10},
    {"october", 10}, {"sep", 9}, {"sept", 9}, {"september", 9},
};

/* Days of the week. */
static const struct word_number weekdays[] = {
    {"friday", 5}, {"monday", 1}, {"saturday", 6}, {"sunday", 7}, {"thursday", 4}, {"tuesday", 2},
    {"wednesday", 3},
};

/* What turns a question round. */
static const char *const negations[] = {
    "aint", "aldrig", "arent", "aucun", "aucune", "cannot", "cant", "couldnt", "didnt", "doesnt",
    "dont", "geen", "hadnt", "hasnt", "havent", "inte", "isnt", "jamais", "kein", "keine",
    "keinem", "keinen", "keiner", "mai", "neither", "nenhum", "nenhuma", "nessuna", "nessuno",
    "never", "nicht", "nie", "niemals", "niet", "ninguna", "ningún", "no", "nobody", "none",
    "nooit", "nor", "not", "nothing", "nowhere", "nunca", "não", "ohne", "pas", "rien", "sans",
    "sem", "senza", "shouldnt", "sin", "utan", "wasnt", "werent", "without", "wont", "wouldnt",
    "zonder",
};

/* What makes the answer depend on when it is asked. */
static const char *const volatile_words[] = {
    "aktuell", "aktuelle", "amanhã", "aujourd'hui", "ayer", "current", "currently", "demain",
    "domani", "forecast", "gestern", "gisteren", "heute", "hier", "hoje", "hoy", "ieri", "latest",
    "mañana", "morgen", "newest", "nowadays", "oggi", "ontem", "today", "tomorrow", "tonight",
    "vandaag", "weather", "yesterday",
};

/* Words that carry no topic; they may begin a sentence with a capital, too. */
static const char *const stops[] = {
    "a", "about", "all", "also", "am", "among", "an", "and", "any", "are", "as", "at", "be",
    "because", "been", "being", "between", "but", "by", "can", "could", "describe", "did", "do",
    "does", "doing", "done", "each", "either", "explain", "find", "for", "from", "get", "gets",
    "getting", "give", "given", "go", "goes", "going", "got", "had", "has", "have", "having",
    "he", "help", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it",
    "its", "itself", "just", "kind", "know", "let", "let's", "list", "lot", "make", "makes",
    "making", "many", "me", "might", "much", "must", "my", "need", "of", "off", "on", "once",
    "one", "only", "or", "other", "our", "out", "over", "own", "per", "please", "really", "same",
    "say", "shall", "should", "show", "so", "some", "such", "take", "tell", "than", "thank",
    "thanks", "that", "the", "their", "them", "then", "there", "these", "they", "thing", "things",
    "think", "this", "those", "through", "to", "too", "up", "us", "use", "used", "uses", "using",
    "versus", "very", "via", "vs", "want", "was", "way", "ways", "we", "were", "what", "when",
    "where", "which", "while", "who", "whom", "whose", "why", "will", "with", "would", "yes",
    "you", "your", "yours",
};

/* Further words that begin a question with a capital and are no name. */
static const char *const starters[] = {
    "according", "actually", "after", "although", "anybody", "anyone", "apart", "aren't",
    "assuming", "bad", "before", "besides", "best", "better", "both", "boy", "boys", "briefly",
    "build", "buy", "calculate", "children", "choose", "classify", "common", "compare",
    "complete", "compute", "consider", "convert", "correct", "create", "debug", "define",
    "design", "despite", "determine", "develop", "difference", "differences", "different",
    "discuss", "draft", "during", "edit", "estimate", "evaluate", "even", "ever", "every",
    "everybody", "everyone", "example", "examples", "extract", "few", "first", "five", "fix",
    "following", "format", "four", "generate", "girl", "girls", "good", "hello", "hey", "hi",
    "high", "ideas", "identify", "imagine", "implement", "important", "improve", "install",
    "instead", "kids", "kindly", "last", "latest", "learn", "left", "less", "living", "long",
    "looking", "losing", "low", "main", "major", "man", "may", "maybe", "men", "more", "most",
    "name", "never", "new", "next", "no", "not", "now", "okay", "old", "outline", "people",
    "perhaps", "person", "pick", "plan", "playing", "possible", "print", "provide", "rank",
    "read", "real", "reasons", "recommend", "refactor", "regarding", "rephrase", "reply",
    "respond", "rewrite", "right", "run", "search", "second", "sell", "set", "several", "since",
    "solve", "somebody", "someone", "something", "sort", "start", "step", "steps", "still",
    "student", "students", "suggest", "sum", "summarise", "summarize", "suppose", "teach", "ten",
    "test", "third", "three", "tips", "today", "top", "translate", "turn", "two", "under",
    "unless", "until", "update", "verify", "walk", "watching", "whether", "without", "woman",
    "women", "work", "working", "worst", "write",
};

/* Small words and the languages they are of: bits en, de, fr, es, it, pt, nl. */
static const struct word_number tongues[] = {
    {"and", 1}, {"are", 1}, {"as", 32}, {"auf", 2}, {"avec", 4}, {"can", 1}, {"che", 16},
    {"chi", 16}, {"com", 32}, {"come", 16}, {"comment", 4}, {"como", 40}, {"con", 24},
    {"cosa", 16}, {"cuál", 8}, {"cómo", 8}, {"da", 32}, {"dans", 4}, {"das", 2}, {"de", 64},
    {"del", 8}, {"della", 16}, {"den", 2}, {"der", 2}, {"des", 4}, {"die", 2}, {"do", 33},
    {"does", 1}, {"dove", 16}, {"dónde", 8}, {"e", 48}, {"een", 64}, {"ein", 2}, {"eine", 2},
    {"el", 8}, {"en", 64}, {"es", 8}, {"est", 4}, {"et", 4}, {"eu", 32}, {"for", 1}, {"für", 2},
    {"gli", 16}, {"het", 64}, {"hoe", 64}, {"how", 1}, {"ich", 2}, {"ik", 64}, {"il", 16},
    {"in", 1}, {"io", 16}, {"is", 65}, {"ist", 2}, {"je", 4}, {"kan", 64}, {"kann", 2}, {"la", 4},
    {"las", 8}, {"le", 4}, {"les", 4}, {"lo", 16}, {"los", 8}, {"met", 64}, {"mit", 2}, {"my", 1},
    {"ne", 4}, {"nicht", 2}, {"niet", 64}, {"non", 16}, {"não", 32}, {"o", 32}, {"of", 1},
    {"onde", 32}, {"op", 64}, {"os", 32}, {"où", 4}, {"para", 40}, {"pas", 4}, {"per", 16},
    {"perché", 16}, {"por", 40}, {"posso", 48}, {"pour", 4}, {"pourquoi", 4}, {"puedo", 8},
    {"qual", 32}, {"que", 44}, {"quel", 4}, {"quelle", 4}, {"quem", 32}, {"qui", 4}, {"quién", 8},
    {"qué", 8}, {"sind", 2}, {"sono", 16}, {"the", 1}, {"to", 1}, {"um", 32}, {"uma", 32},
    {"un", 28}, {"una", 24}, {"und", 2}, {"une", 4}, {"van", 64}, {"voor", 64}, {"waar", 64},
    {"waarom", 64}, {"warum", 2}, {"was", 2}, {"wat", 64}, {"wer", 2}, {"what", 1}, {"when", 1},
    {"which", 1}, {"who", 1}, {"why", 1}, {"wie", 66}, {"with", 1}, {"wo", 2}, {"y", 8},
    {"yo", 8}, {"you", 1}, {"zijn", 64}, {"zu", 2}, {"è", 16}, {"é", 32},
};

#endif
