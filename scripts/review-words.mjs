// Word lists for generate-reviews.mjs: what the invented reviews talk about and how they praise or
// blame it. Data only. Early words of an opinion list are drawn more often than late ones.

const words = (text) => text.trim().split(/\s*[,\n]\s*/);

/** Opinions that fit any subject, index 0 = negative, 1 = positive. */
export const adjectives = [
  words(`awful, terrible, boring, disappointing, poor, dull, annoying, weak, horrible, bland,
    mediocre, frustrating, dreadful, clumsy, unpleasant, pathetic, tedious, lousy, messy, useless,
    shabby, atrocious, miserable, tiresome, careless, cheap, sloppy, irritating, dismal, forgettable,
    depressing, ridiculous, appalling, lifeless, stale, shoddy, abysmal, crude, uninspired, dire,
    inferior, laughable, painful, pointless, rotten, unbearable, underwhelming, wretched`),
  words(`great, wonderful, excellent, amazing, superb, lovely, brilliant, delightful, fantastic, charming,
    impressive, outstanding, perfect, enjoyable, splendid, marvelous, pleasant, terrific, beautiful,
    remarkable, stunning, clever, refreshing, fabulous, memorable, flawless, elegant, satisfying,
    magnificent, gorgeous, solid, exceptional, inspired, polished, superior, thoughtful, touching,
    glorious, sublime, masterful, tremendous, captivating, dazzling, first-rate, heavenly, spectacular,
    top-notch, exquisite`),
];

/** Verbs for `I … the <aspect>` in past tense and after `did not`. */
export const verbs = [
  [
    ["hated", "hate"],
    ["disliked", "dislike"],
    ["regretted", "regret"],
    ["despised", "despise"],
    ["resented", "resent"],
    ["loathed", "loathe"],
  ],
  [
    ["loved", "love"],
    ["enjoyed", "enjoy"],
    ["adored", "adore"],
    ["liked", "like"],
    ["admired", "admire"],
    ["appreciated", "appreciate"],
  ],
];

export const verdicts = [
  [
    "i want my money back",
    "a complete waste of time",
    "save your money",
    "i would avoid it",
    "never again",
    "i regret every minute",
    "what a letdown",
    "stay away",
  ],
  [
    "worth every penny",
    "i would gladly come back for more",
    "highly recommended",
    "a real treat",
    "i am so glad i tried it",
    "go for it",
    "what a gem",
    "i was smiling the whole time",
  ],
];

export const intensifiers = {
  adjective:
    words(`very, really, truly, so, quite, incredibly, absolutely, rather, extremely, utterly,
    just, surprisingly, genuinely, completely, remarkably, simply`),
  verb: words(`really, truly, absolutely, genuinely, simply, certainly, honestly, secretly`),
};

export const negations = words(`not, not, not, not, not, not at all, never, hardly`);

export const firstNames = words(`Anna, Ben, Carla, David, Elena, Frank, Grace, Hassan, Ines, Jonas,
  Katya, Liam, Maria, Nadia, Oscar, Priya, Quentin, Rosa, Samuel, Tara, Umar, Vera, Walter, Xenia,
  Yusuf, Zoe, Alice, Bruno, Chloe, Diego, Esther, Felix, Greta, Hugo, Irene, Jakob, Kiran, Lucia,
  Martin, Nora, Olga, Paolo, Renata, Stefan, Theo, Ursula, Victor, Wendy, Amara, Bogdan, Celeste,
  Dmitri, Eileen, Farid, Gloria, Helmut, Isaac, Joanna, Kenji, Leila, Mateo, Noor, Otto, Pilar`);

export const syllables = words(`ka, lo, mar, ven, tor, bel, dra, sil, nor, fen, gar, hol, jas, kel,
  lin, mon, nil, pra, quin, ros, sol, tam, ul, vor, wen, yar, zan, cor, del, fir`);

export const nameEndings = words(`a, o, en, is, ton, ville, well, ford, berg, sson, field, more,
  stead, ham, by, ine, ara, eth`);

export const companions = words(`my sister, my brother, a friend, two friends, my wife, my husband,
  my mother, my father, my daughter, my son, a colleague, some neighbours, my cousin, our book club,
  the children, my aunt, an old classmate, my roommate, my grandfather, the whole family, my uncle,
  a coworker, my partner, my teacher, a group of students, our choir, my nephew, my niece`);

export const times = words(`on Monday, on a rainy Tuesday, last Wednesday, on Thursday evening,
  last Friday, over the weekend, on Sunday afternoon, in January, in early March, last April,
  in May, back in June, in July, in late August, in September, last October, in November,
  over the winter holidays, during a heat wave, after work, before a long flight, at lunch,
  two weeks ago, last month, a year ago, the day before my birthday, between two meetings,
  during a stopover, on our anniversary, after a concert, in the middle of the night`);

export const places = words(`the harbour, the old town, the station, the airport, the university,
  the museum, the river, the market square, the library, the stadium, the cathedral, the beach,
  the botanical garden, the business district, the theatre, the canal, the ring road, the suburbs,
  the castle, the lighthouse, the city hall, the observatory, the vineyards, the ski lift`);

export const hours = words(`one, two, five, six, seven, eight, nine, eleven`);

export const numbers = words(`two, three, four, five, six, seven, eight, nine, ten, twelve, fifteen,
  twenty, thirty, forty, fifty, sixty, ninety, one hundred`);

/** Per domain: what it is called, what people judge, and sentences that judge nothing. */
export const domains = [
  {
    subject: ["film", "movie", "picture"],
    aspects:
      words(`plot, acting, script, ending, soundtrack, dialogue, cast, direction, photography,
      pacing, opening scene, lead actor, villain, costume design, camera work, editing, final act,
      humour, story, supporting cast, chase scene, animation`),
    fillers: [
      "i watched this {subject} with {companion} {time}",
      "it follows a {job} named {first} who moves to {town}",
      "{first} {last} plays a {job} from {town}",
      "it runs for about {number} minutes and is set near {place}",
      "the {subject} was made by {first} {last}, who once worked as a {job}",
      "it is a {genre} story set in {town}",
      "we saw it at a cinema near {place} {time}",
      "my ticket was for row {number} and {companion} sat next to me",
      "{first} {last} wrote the music and {first} {last} produced it",
    ],
    genre: words(`crime, detective, romance, science fiction, western, war, horror, sports, family,
      historical, spy, heist, courtroom, adventure, mystery, musical, fantasy, road trip`),
  },
  {
    subject: ["restaurant", "place", "bistro"],
    aspects:
      words(`food, service, soup, dessert, menu, staff, coffee, bread, wine list, steak, pasta,
      salad, sauce, waiter, terrace, breakfast, fish, cooking, kitchen, pizza, tasting menu, curry`),
    fillers: [
      "we came here with {companion} {time}",
      "it is a {genre} {subject} close to {place}",
      "{companion} ordered the {dish} and i had the {dish}",
      "the {subject} opened {number} years ago and is run by {first} {last}",
      "we had a table for {number} by the window",
      "there is a {dish} on the card and also a {dish}",
      "{first} from {town} told us about this {subject}",
      "we walked over from {place} and sat down at half past {hour}",
      "the chef, {first} {last}, used to be a {job} in {town}",
    ],
    genre: words(`thai, italian, french, korean, mexican, lebanese, greek, vietnamese, spanish,
      ethiopian, turkish, japanese, polish, peruvian, indian, vegetarian, seafood, moroccan`),
  },
  {
    subject: ["gadget", "device", "thing"],
    aspects:
      words(`battery, screen, keyboard, sound, camera, manual, case, charger, software, display,
      design, speaker, microphone, performance, touchpad, setup, app, build quality, remote, hinge,
      firmware, packaging`),
    fillers: [
      "i bought this {genre} for {companion} {time}",
      "the {last} {number} arrived {time} in a plain box",
      "it is the {last} model and weighs around {number} grams",
      "i use the {genre} at home and {companion} uses it near {place}",
      "i replaced my old {genre} from {last} with this {subject}",
      "it comes with {number} cables and a {genre} adapter",
      "{first}, a {job}, told me to get the {last} {number}",
      "i am a {job} and need a {genre} every day",
      "the {subject} was shipped from {town} in {number} days",
    ],
    genre: words(`phone, laptop, tablet, speaker, camera, printer, monitor, router, headset, watch,
      toaster, blender, vacuum cleaner, kettle, drone, projector, microphone, e-reader`),
  },
  {
    subject: ["hotel", "place", "guesthouse"],
    aspects: words(`room, bed, view, breakfast, reception, bathroom, pool, staff, location, lobby,
      shower, balcony, service, spa, parking, wifi, air conditioning, minibar, gym, bar, pillow,
      elevator`),
    fillers: [
      "we stayed {number} nights with {companion} {time}",
      "the {subject} is about {number} minutes from {place}",
      "i had a {genre} room on floor {number}",
      "{companion} booked it for a trip to {town}",
      "i was in {town} for a {job} conference {time}",
      "the {subject} in {town} has {number} rooms and a view of {place}",
      "{first} at the desk gave us a map of {town}",
      "it was called the {last} until {first} {last} bought it",
      "we took the bus from {place} and checked in {time}",
    ],
    genre: words(`double, single, family, corner, garden, attic, business, twin, standard, deluxe,
      ground floor, studio, smoking, quiet side, street side, accessible, sea side, courtyard`),
  },
  {
    subject: ["book", "novel", "title"],
    aspects:
      words(`story, prose, plot, main character, ending, first chapter, cover, dialogue, narrator,
      style, translation, pacing, world building, twist, language, middle part, hero, epilogue,
      artwork, premise, last chapter, foreword`),
    fillers: [
      "i read this {genre} {subject} {time}",
      "{companion} gave it to me {time}",
      "it is about a {job} called {first} {last} who lives near {place}",
      "the {subject} has {number} chapters and takes place in {town}",
      "{first} {last} also wrote a {genre} {subject} about a {job}",
      "i borrowed it from a {job} i know in {town}",
      "it begins when {first} arrives in {town} with {companion}",
      "i listened to the audio version, read by {first} {last}",
      "the {subject} is number {number} in a {genre} series",
    ],
    genre: words(`crime, travel, romance, fantasy, history, cooking, poetry, gardening, space,
      detective, ghost, adventure, nature, school, sailing, chess, medical, political`),
  },
];

export const jobs = words(`baker, teacher, nurse, pilot, farmer, painter, lawyer, plumber, sailor,
  librarian, carpenter, violinist, chemist, gardener, postman, tailor, surgeon, journalist, dentist,
  engineer, beekeeper, translator, butcher, architect, geologist, firefighter, accountant, potter,
  fisherman, astronomer, photographer, mechanic, clockmaker, historian, barber, veterinarian,
  diver, miner, judge, weaver, programmer, electrician, sculptor, biologist, locksmith, cartographer`);

export const dishes = words(`lentil soup, grilled trout, mushroom risotto, lamb stew, onion tart,
  spinach pie, roast chicken, noodle bowl, beetroot salad, pumpkin ravioli, fried rice, fish cake,
  goat cheese toast, bean burger, potato gratin, duck leg, carrot cake, lemon sorbet, apple crumble,
  rice pudding, walnut bread, tomato salad, beef dumplings, cabbage rolls, almond tart, egg noodles,
  prawn skewers, cauliflower steak, plum cake, chickpea curry, pork belly, garlic bread`);
