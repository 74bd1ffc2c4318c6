"""What the generated text questions know: small tables of plain facts."""

NAMES = (
    "Tom",
    "Ana",
    "Ravi",
    "Mia",
    "Leo",
    "Zoe",
    "Omar",
    "Lucy",
    "Ken",
    "Nora",
    "Ivan",
    "Ella",
    "Sam",
    "Aisha",
    "Ben",
)
COLOURS = ("red", "blue", "green", "yellow", "white", "black", "orange", "purple", "brown", "pink")
THINGS = ("ball", "kite", "bag", "cup", "hat", "scarf", "bike", "box", "lamp", "chair", "coat", "book")
GOODS = ("bread", "apples", "cheese", "honey", "fish", "eggs", "carrots", "flowers", "milk", "nuts", "tea", "soap")
PLACES = ("the forest", "the lake", "the hills", "the desert", "the harbor", "the farm", "the swamp", "the castle")
DIRECTIONS = ("north", "south", "east", "west")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
WEATHER = ("rain", "snow", "fog", "hail", "sunshine", "strong wind")
CARE = ("water", "sunlight", "fresh soil")
SPOTS = ("by the window", "in the kitchen", "on the balcony", "in the hall", "in the garden", "on the shelf")
OUTINGS = ("the zoo", "the museum", "the beach", "the park", "the library", "the theater")

CAPITALS = {
    **{"France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "Egypt": "Cairo"},
    **{
        "China": "Beijing",
        "Kenya": "Nairobi",
        "Peru": "Lima",
        "Cuba": "Havana",
        "Greece": "Athens",
        "India": "New Delhi",
    },
    **{"Norway": "Oslo", "Poland": "Warsaw", "Portugal": "Lisbon", "Russia": "Moscow", "Austria": "Vienna"},
}
CONTINENTS = {
    "Europe": ("France", "Italy", "Spain", "Germany", "Greece", "Norway", "Poland", "Portugal", "Austria"),
    "Asia": ("Japan", "China", "India", "Thailand", "Vietnam", "Nepal", "Mongolia"),
    "Africa": ("Egypt", "Kenya", "Ghana", "Nigeria", "Morocco", "Ethiopia", "Tanzania"),
    "South America": ("Peru", "Brazil", "Chile", "Argentina", "Bolivia", "Ecuador"),
}
ANIMALS = {
    "a mammal": ("dog", "whale", "bat", "horse", "lion", "rabbit", "elephant", "cow", "bear", "mouse"),
    "a bird": ("owl", "eagle", "penguin", "duck", "parrot", "robin", "swan", "ostrich"),
    "a fish": ("salmon", "shark", "tuna", "trout", "cod", "herring"),
    "a reptile": ("snake", "lizard", "turtle", "crocodile", "gecko"),
    "an insect": ("ant", "bee", "beetle", "butterfly", "moth", "fly"),
}
STATES = {
    "a solid": ("rock", "brick", "spoon", "coin", "ice cube", "pencil", "plate", "nail"),
    "a liquid": ("milk", "rainwater", "orange juice", "olive oil", "vinegar", "sea water"),
    "a gas": ("the air in a balloon", "helium", "oxygen", "steam", "the air in a tire"),
}
UNITS = {
    "length": ("meter", "kilometer", "inch", "mile", "centimeter"),
    "mass": ("kilogram", "gram", "pound", "ton"),
    "time": ("second", "minute", "hour", "week"),
    "volume": ("liter", "gallon", "milliliter", "cup"),
}
PLURALS = {
    **{"child": "children", "mouse": "mice", "foot": "feet", "tooth": "teeth", "leaf": "leaves", "city": "cities"},
    **{"box": "boxes", "goose": "geese", "woman": "women", "knife": "knives", "baby": "babies", "wolf": "wolves"},
    **{"dog": "dogs", "bus": "buses", "berry": "berries", "wish": "wishes", "key": "keys", "shelf": "shelves"},
}
PAST = {
    **{"go": "went", "see": "saw", "eat": "ate", "run": "ran", "write": "wrote", "sing": "sang", "swim": "swam"},
    **{"take": "took", "give": "gave", "fly": "flew", "buy": "bought", "teach": "taught", "drink": "drank"},
}
SYNONYMS = {
    **{"big": "large", "quick": "fast", "happy": "glad", "begin": "start", "ill": "sick", "silent": "quiet"},
    **{"shut": "close", "smart": "clever", "angry": "mad", "gift": "present", "road": "street", "rock": "stone"},
}
OPPOSITES = {
    **{"hot": "cold", "up": "down", "early": "late", "full": "empty", "hard": "soft", "old": "new", "wet": "dry"},
    **{"day": "night", "open": "closed", "near": "far", "light": "dark", "strong": "weak", "rich": "poor"},
}
RHYMES = {
    **{"cat": "hat", "dog": "log", "sun": "run", "tree": "bee", "cake": "lake", "star": "car"},
    **{"moon": "spoon", "king": "ring", "boat": "goat", "bell": "shell", "nose": "rose", "light": "kite"},
}
SORTED = (
    *("anchor", "bridge", "candle", "dragon", "engine", "feather", "garden", "hammer", "island", "jacket", "kettle"),
    *("ladder", "mirror", "needle", "orange", "pepper", "quilt", "rocket", "saddle", "table", "umbrella", "violin"),
)
PROPER = (
    "paris",
    "japan",
    "monday",
    "july",
    "africa",
    "anna",
    "london",
    "brazil",
    "saturday",
    "october",
    "texas",
    "peter",
)
COMMON = ("river", "teacher", "garden", "city", "summer", "doctor", "school", "mountain", "window", "holiday", "uncle")
