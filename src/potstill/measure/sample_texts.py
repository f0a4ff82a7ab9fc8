"""Sentences to measure speed on where no test file is given: 5 to 60 words, as people write."""

from __future__ import annotations

SAMPLE_TEXTS = (
    "Where is my order now?",
    "The lift is broken again.",
    "Thank you, that solved it.",
    "Please call me back after lunch.",
    "I cannot open the attached file.",
    "The soup was cold, the service slow.",
    "Our train leaves at ten past seven tomorrow.",
    "Can I change the delivery address of my parcel?",
    "The new update drains the battery within two hours.",
    "She read the letter twice before she answered it.",
    "My password was reset, but the mail never arrived here.",
    "Heavy rain is expected along the coast until Sunday evening.",
    "A charming film that never quite decides what it wants to be.",
    "The council voted last night to keep the old library building open.",
    "I was charged twice for the same subscription and want one payment back.",
    "Both teams missed early chances before the only goal fell in the last minute.",
    "The room was clean and quiet, although the walls could do with a little paint.",
    "Add the flour slowly, stir until the dough is smooth, and let it rest for an hour.",
    "The patient reported mild headaches for three days, without fever and without any change of "
    "sight.",
    "If the printer shows a red light, switch it off, remove the tray, and look for paper that is "
    "stuck.",
    "We compared the two pumps over a whole winter, and the cheaper one used about a fifth more "
    "power than promised.",
    "Although the plot is thin, the two leading actors carry it with such ease that one forgives "
    "the film its many coincidences.",
    "The museum opens a show of early photographs this weekend, most of them lent by families who "
    "have lived in the harbor district for generations.",
    "I have used this backpack every day for a year, in rain and snow, and apart from one loose "
    "thread at the left strap it still looks like new.",
    "The company said on Tuesday that it would close two of its plants by the end of next year and "
    "offer those who work there places at other sites.",
    "Could you please tell me whether the guarantee also covers the screen, since mine has a thin "
    "line on the right side that was not there when I bought it?",
    "After the third call somebody finally understood that the meter had been read wrongly, sent a "
    "corrected bill within the hour, and even said sorry for the trouble that I had had.",
    "The recipe says forty minutes, but in my oven the crust was dark after half an hour, so keep "
    "an eye on it, and cover it with foil as soon as the edges begin to turn brown.",
    "Researchers followed more than two thousand adults over eight years and found that those who "
    "walked at least half an hour a day slept longer, saw a doctor less often, and described their "
    "health as better than that of others of their age.",
    "It is not a bad phone, and for the price the camera is surprisingly good in daylight, but the "
    "menu is slow, the speaker sounds thin, and twice in the first week it switched itself off in "
    "the middle of a call, which is something that I do not expect from a new device.",
    "The tenant may end the contract at the end of any month with three months of notice, in "
    "writing, unless both sides agree on another date; repairs that cost less than one hundred are "
    "paid by the tenant, all others by the owner, who has to be told of any damage to the roof, "
    "the pipes or the heating without delay.",
    "Nobody in the village could say when the bridge had been built, only that it had always been "
    "there, that the stones in the middle were older than those at its ends, and that in the "
    "spring of the great flood, when the mill and both barns were carried away in one night, the "
    "water had risen to the rail and then, slowly, gone down again.",
)
