"""What the paper reports (PAPER section 3): accuracies on the test split of TAU 2020 Mobile, and sizes."""

ACCURACIES = {
    "airport": (0.514, 0.568, 0.568, 0.507),
    "bus": (0.747, 0.717, 0.734, 0.694),
    "metro": (0.515, 0.572, 0.579, 0.505),
    "metro_station": (0.535, 0.579, 0.576, 0.640),
    "park": (0.717, 0.758, 0.761, 0.687),
    "public_square": (0.377, 0.394, 0.387, 0.333),
    "shopping_mall": (0.488, 0.522, 0.552, 0.609),
    "street_pedestrian": (0.428, 0.418, 0.391, 0.374),
    "street_traffic": (0.845, 0.842, 0.832, 0.811),
    "tram": (0.591, 0.591, 0.608, 0.622),
}
"""Table 1 of Zhao's DCASE 2021 report: scene -> systems 1 to 4."""

AVERAGES = {"1": 0.576, "2": 0.596, "3": 0.599, "4": 0.578}
SIZE = "116 KB"


def accuracy(system: str, scene: str) -> float:
    return ACCURACIES[scene][int(system) - 1]
