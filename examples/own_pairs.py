"""Pairs to try medi on: what tram drivers report, and the workshop's note that settles it, in its own words.

`python examples/own_pairs.py pairs.csv` writes 600 lines; all of it is invented here.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

PARTS = {
    "front door": "P1 door leaf",
    "ticket machine": "fare box",
    "heater": "cab radiator",
    "windscreen wiper": "pane arm",
    "headlight": "A2 lantern",
    "brake pedal": "stopping lever",
    "bell": "gong",
    "driver's seat": "cab chair",
    "side mirror": "outer looking-glass",
    "display above the door": "matrix board",
    "handrail": "grab tube",
    "sand box": "grit hopper",
    "pantograph": "roof bow",
    "loudspeaker": "voice horn",
    "rear camera": "tail eye",
    "radio": "squawk set",
    "floor hatch": "trap 7",
    "side window": "glazing field",
    "wheelchair ramp": "landing plate",
    "emergency button": "red mushroom",
    "sun blind": "roller shade",
    "cabin light": "ceiling dome",
    "coupling": "hitch jaw",
    "speed gauge": "dial 3",
    "air hose": "pneumatic line",
}
FAULTS = {
    ("makes a grinding noise", "has been grinding since this morning"): "dry bearing, pack with number 4 grease",
    ("is stuck", "will not move at all"): "seized, free it with the long bar and log a code 12",
    ("rattles", "shakes and rattles on the bridge"): "vibration, torque the fixings to blue and paint-mark",
    ("is wet inside", "lets the rain in"): "water ingress, fit the wide gasket and hose-test",
    ("smells of burning", "got hot and smelled of smoke"): "scorched insulation, isolate at panel C and meg it",
    ("does nothing when switched on", "is dead"): "no feed, swap fuse row 2 before anything else",
    ("works only now and then", "comes and goes"): "intermittent, reseat plug 9 and wiggle-test",
    ("is cracked", "has a crack across it"): "fractured, withdraw the car and order from store N",
    ("is covered in graffiti", "was painted over last night"): "vandalism, scrub with paste 6 and never with the wheel",
    ("is loose", "came off in my hand"): "bracket sheared, drill out and sleeve to M10",
    ("is far too slow", "takes for ever"): "sluggish, bleed it and reset the governor",
    ("beeps all the time", "will not stop beeping"): "alarm latched, clear it from the laptop with key F",
}


def pairs() -> Iterator[tuple[str, str]]:
    """(report, note) of every fault of every part, each said in two ways."""
    for part, name in PARTS.items():
        for ways, note in FAULTS.items():
            for start, way in zip(("The", "Car 7,"), ways, strict=True):
                yield f"{start} {part} {way}", f"{name[0].upper()}{name[1:]}: {note}."


def main() -> None:
    """Write the file that the first argument names; like any file of one's own it has two lines that are no pairs."""
    with Path(sys.argv[1]).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("report", "note"))
        writer.writerows(pairs())
        writer.writerows((("Test, please ignore", ""), ("", "Closed without a note.")))


if __name__ == "__main__":
    main()
