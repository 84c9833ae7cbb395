"""Rows with gaps: train on what each row has, then embed whatever is there.

Three views of one hidden vector. A third of the training rows lack the sound, another third the image. Each term of
the plan uses the rows that have both of its sides; nothing is filled in.
"""

import tempfile

import torch

import confu
from confu.data import ArrayDataset, TensorColumn

torch.manual_seed(0)
NAMES = ("image", "audio", "text")
VIEWS = {name: torch.randn(8, 16) for name in NAMES}


def rows(n: int, gaps: bool) -> ArrayDataset:
    hidden = torch.randn(n, 8)
    which = torch.arange(n) % 3
    missing = {"audio": which == 0, "image": which == 1} if gaps else {}
    return ArrayDataset(
        {name: TensorColumn(hidden @ view + torch.randn(n, 16), missing.get(name)) for name, view in VIEWS.items()}
    )


plan = confu.confu_plan(NAMES)
encoders = {
    name: confu.build_encoder({"kind": "mlp", "in_dim": 16, "hidden_dims": [64], "out_dim": 64}) for name in NAMES
}
model = confu.MultimodalModel(plan, encoders, dim=32, fusion_dim=128)
train = rows(3_000, gaps=True)

with tempfile.TemporaryDirectory() as folder:
    settings = confu.TrainSettings(epochs=10, batch_size=250, lr=2e-3)
    objective = confu.ContrastiveObjective(model, confu.ConFuLoss(plan))
    confu.fit(objective, train, rows(500, gaps=True), settings, folder, progress=False)
    model = confu.load_model(folder)

test = confu.embed(model, rows(600, gaps=True))
print("rows that can be asked for, of 600 (the others have no vector there):")
for subset in test.subsets:
    print(f"  {subset!s:<12} {int(test.complete[subset].sum())}")

print("finding the text of a row among 500 complete rows, recall@1:")
table = confu.embed(model, rows(500, gaps=False))
pairs = [(plan.subset(query), plan.subset("text")) for query in ("image", "audio", "image+audio")]
for row in confu.evaluate_retrieval(table, ks=(1,), pairs=pairs):
    if row.metric == "recall@1":
        print(f"  {row.query:<19} {row.value:.3f}")
