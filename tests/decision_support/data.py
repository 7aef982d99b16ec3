"""The carrier's rows: the same for a scale every time. Scale 1 has 40,000 consignments and some 110,000 legs."""

import datetime
import random

RULES = {"by_consignment": "hash", "by_sender": "hash", "by_plate": "consistent_hash"}  # each over all shards
TABLES = {
    "regions": {"reference": True},
    "depots": {"reference": True},
    "services": {"reference": True},
    "senders": {"rule": "by_sender", "key": "sender_id"},
    "claims": {"rule": "by_sender", "key": "sender_id"},
    "vehicles": {"rule": "by_plate", "key": "plate"},
    "consignments": {"rule": "by_consignment", "key": "consignment_id"},
    "legs": {"rule": "by_consignment", "key": "consignment_id"},
}
ZONES = {"north": ["Norland", "Fjords", "Skerries"], "middle": ["Plains", "Hills", "Lakes", "Marsh"], "south": ["Coast", "Vineyards", "Islands"]}
TRADES = ["books", "flowers", "tools", "wine", "toys", "spares", None]
KINDS = {"van": (900, "0.310"), "lorry": (7500, "0.870"), "trailer": (24000, "1.240"), "bicycle": (60, "0.040")}
REASONS = ["lost", "broken", "late", "wet", "short"]
REMARKS = [None, None, "leave with neighbour", "fragile: glass", "urgent; call first", "no lift", "customs papers inside", "return unpaid"]
FIRST = datetime.date(2021, 1, 1)
SERVICES = [("EX", "express", 1, "9.90", "0.8500"), ("DY", "daily", 2, "5.40", "0.4200"), ("EC", "economy", 6, "3.10", "0.1950"), ("PA", "pallet", 4, "38.00", "0.0875")]


class Data:
    def __init__(self, scale, seed=1):
        self.rng = random.Random(f"{seed} {scale}")
        self.consignment_count = max(200, int(40_000 * scale))
        self.sender_count = max(30, int(3_000 * scale))
        self.vehicle_count = max(20, int(600 * scale))
        self.regions = [(i, name, zone) for i, (name, zone) in enumerate(((name, zone) for zone, names in ZONES.items() for name in names), 1)]
        self.depots = [(i, f"Depot {i:02}", self.rng.choice(self.regions)[0], self.rng.randint(2, 40), self._day(-3000, 0)) for i in range(1, 31)]
        self.vehicles = [self._vehicle(i) for i in range(self.vehicle_count)]
        self.claims = []

    def _day(self, first, last):
        return FIRST + datetime.timedelta(days=self.rng.randint(first, last))

    def _money(self, most):
        return f"{self.rng.randint(0, most * 100) / 100:.2f}"

    def _vehicle(self, i):
        kind = self.rng.choices(list(KINDS), [6, 4, 2, 1])[0]
        return (f"TS-{i * 7919 % 10000:04}-{'ABCDEF'[i % 6]}", self.rng.choice(self.depots)[0], kind, KINDS[kind][0], self._day(-2500, 900), KINDS[kind][1])

    def senders(self):
        for i in range(1, self.sender_count + 1):
            parent = self.rng.randint(1, i - 1) if i > 5 and self.rng.random() < 0.3 else None
            yield (i, f"Sender {i:06}", self.rng.choice(TRADES), self.rng.choice(self.regions)[0], self._day(-2000, 700), None if self.rng.random() < 0.1 else self._money(20_000), parent)

    def consignments_and_legs(self):
        """Consignments with their legs; claims are noted on the way."""
        for i in range(1, self.consignment_count + 1):
            # A few senders send much.
            sender = min(int(self.rng.expovariate(6 / self.sender_count)) + 1, self.sender_count)
            service, _, days, base, per_kg = self.rng.choices(SERVICES, [3, 5, 4, 1])[0]
            accepted = self._day(0, 1090)
            due = accepted + datetime.timedelta(days=days)
            delivered = None if self.rng.random() < 0.04 else due + datetime.timedelta(days=self.rng.choice([-1, 0, 0, 0, 1, 1, 2, 9]) if days > 1 else self.rng.choice([0, 0, 0, 1, 4]))
            stops = [depot[0] for depot in self.rng.sample(self.depots, self.rng.choice([2, 3, 3, 4, 6]))]
            weight = self.rng.choice([0.5, 2, 7.25, 12, 31.5, 80]) * (12 if service == "PA" else 1)
            legs = []
            at = datetime.datetime.combine(accepted, datetime.time(self.rng.randint(5, 22), self.rng.randint(0, 59)))
            for number, (here, there) in enumerate(zip(stops, stops[1:]), 1):
                kilometres = self.rng.randint(15, 900)
                arrived = at + datetime.timedelta(minutes=kilometres + self.rng.randint(0, 600))
                fee = float(base) / (len(stops) - 1) + weight * float(per_kg)
                legs.append((i, number, self.rng.choice(self.vehicles)[0], here, there, at, None if delivered is None and number == len(stops) - 1 else arrived, f"{weight:.2f}", kilometres, self._money(40) if self.rng.random() < 0.4 else "0.00", f"{fee:.2f}", self.rng.choices("GWDL", [90, 6, 3, 1])[0]))
                at = arrived + datetime.timedelta(minutes=self.rng.randint(20, 900))
                if legs[-1][-1] in "DL" and self.rng.random() < 0.7:
                    asked = self._money(400)
                    self.claims.append((sender, len(self.claims) + 1, i, number, accepted + datetime.timedelta(days=self.rng.randint(3, 90)), self.rng.choice(REASONS), asked, self.rng.choice([None, "0.00", asked, f"{float(asked) / 2:.2f}"])))
            yield (i, sender, service, stops[0], stops[-1], accepted, due, delivered, self.rng.randint(1, 9), None if self.rng.random() < 0.2 else self._money(3_000), self.rng.choice(REMARKS)), legs

    def load(self, connections):
        """By COPY into each of these (psycopg connections), table after table; how many rows each has."""
        tables = {"regions": self.regions, "depots": self.depots, "services": SERVICES, "senders": list(self.senders()), "vehicles": self.vehicles, "consignments": [], "legs": []}
        for consignment, legs in self.consignments_and_legs():
            tables["consignments"].append(consignment)
            tables["legs"] += legs
        tables["claims"] = self.claims
        for connection in connections:
            for table, rows in tables.items():
                with connection.cursor() as cursor, cursor.copy(f"copy {table} from stdin") as copy:
                    for row in rows:
                        copy.write_row(row)
            connection.execute("analyze")
        return {table: len(rows) for table, rows in tables.items()}
