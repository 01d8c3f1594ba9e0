"""Writes the documents in this folder: 50 each in the formats of MMLU, LAMBADA and SciQ.

The facts are common knowledge, worded for this test; LAMBADA's texts are paragraphs of data/pride_and_prejudice.txt (public
domain). Run in this folder: python3 make_documents.py
"""
import json
import random
import re

ELEMENTS = """Hydrogen H, Helium He, Lithium Li, Carbon C, Nitrogen N, Oxygen O, Fluorine F, Neon Ne, Sodium Na,
Magnesium Mg, Aluminium Al, Silicon Si, Phosphorus P, Sulfur S, Chlorine Cl, Argon Ar, Potassium K, Calcium Ca,
Iron Fe, Copper Cu, Zinc Zn, Silver Ag, Tin Sn, Gold Au, Mercury Hg, Lead Pb, Iodine I, Nickel Ni, Cobalt Co,
Titanium Ti""".replace("\n", " ").split(", ")
ANIMALS = {
    "mammal": "dog whale bat horse mouse elephant rabbit dolphin lion bear".split(),
    "bird": "sparrow penguin owl eagle duck ostrich parrot swan raven heron".split(),
    "fish": "salmon trout herring carp shark pike tuna cod eel perch".split(),
    "insect": "ant bee beetle moth wasp fly cricket mosquito termite locust".split(),
    "reptile": "tortoise lizard crocodile gecko viper python iguana turtle cobra chameleon".split(),
}
TRAITS = {
    "mammal": "feeds its young with milk and has hair at some time of its life",
    "bird": "has feathers and lays eggs with hard shells",
    "fish": "lives in water and breathes with gills",
    "insect": "has six legs and a body of three parts",
    "reptile": "has dry scales and warms itself in the sun",
}


def write(name, rows):
    with open(name, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def mmlu_chemistry(rng, element):
    name, symbol = element.split()
    wrong = rng.sample([e.split()[1] for e in ELEMENTS if e != element], 3)
    return choices(rng, "high_school_chemistry", f"What is the chemical symbol of {name.lower()}?", symbol, wrong)


def mmlu_arithmetic(rng, number):
    a, b = rng.randrange(3, 20), rng.randrange(3, 20)
    wrong = [a * b + b, a * b - a, a * b + 1]
    question = rng.choice([f" What is {a} times {b}?", f"A box holds {a} pens. How many pens do {b} boxes hold? "])
    return choices(rng, "elementary_mathematics", question, str(a * b), [str(w) for w in wrong])


def choices(rng, subject, question, right, wrong):
    at = rng.randrange(4)
    return {"question": question, "subject": subject, "choices": wrong[:at] + [right] + wrong[at:], "answer": at}


def sciq(rng, kind, animal):
    article = "an" if animal[0] in "aeiou" else "a"
    support = f"{article.capitalize()} {animal} {TRAITS[kind]}." if rng.random() < 0.8 else ""
    wrong = rng.sample([k for k in ANIMALS if k != kind], 3)
    return {"question": f"To which group of animals does the {animal} belong?", "distractor3": wrong[2],
            "distractor1": wrong[0], "distractor2": wrong[1], "correct_answer": kind, "support": support}


def lambada(rng):
    with open("../../data/pride_and_prejudice.txt", encoding="utf-8") as file:
        paragraphs = [line.strip() for line in file]
    texts = [re.match(r"(.*\w)[.!?]", p) for p in paragraphs if 30 <= len(p.split()) <= 80]
    return [{"text": text.group(1)} for text in rng.sample([t for t in texts if t], 50)]


def main():
    rng = random.Random(8)
    mmlu = [mmlu_chemistry(rng, e) for e in ELEMENTS] + [mmlu_arithmetic(rng, i) for i in range(30)]
    write("mmlu_dev.jsonl", mmlu[:5] + mmlu[30:35])
    write("mmlu_test.jsonl", mmlu[5:30] + mmlu[35:])
    write("lambada_test.jsonl", lambada(rng))
    animals = [(kind, animal) for kind in ANIMALS for animal in ANIMALS[kind]]
    rng.shuffle(animals)
    write("sciq_test.jsonl", [sciq(rng, *pair) for pair in animals])


main()
