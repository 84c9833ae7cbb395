"""Your own arrays, from a data set to recall@k: fit, embed, a table on disk, retrieval.

Replace the generated arrays by yours: a column per modality, row i of each belongs to row i of the others.
"""

import sys
from pathlib import Path

import torch

import confu
from confu.data import ArrayDataset, TensorColumn

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/retrieval-example")

torch.manual_seed(0)
hidden = torch.randn(4_000, 12)
# A sketch and words show a part of the design each; both together show all of it.
sketch = hidden[:, :8] @ torch.randn(8, 20) + torch.randn(4_000, 20)
words = hidden[:, 4:] @ torch.randn(8, 30) + torch.randn(4_000, 30)
design = hidden @ torch.randn(12, 40) + torch.randn(4_000, 40)


def part(start: int, stop: int) -> ArrayDataset:
    return ArrayDataset(
        {
            "sketch": TensorColumn(sketch[start:stop]),
            "words": TensorColumn(words[start:stop]),
            "design": TensorColumn(design[start:stop]),
        },
        ids=[f"item-{row}" for row in range(start, stop)],
    )


plan = confu.target_plan(("sketch", "words", "design"), target="design")
print(plan)
encoders = {
    "sketch": confu.build_encoder({"kind": "mlp", "in_dim": 20, "hidden_dims": [128], "out_dim": 128}),
    "words": confu.build_encoder({"kind": "mlp", "in_dim": 30, "hidden_dims": [128], "out_dim": 128}),
    "design": confu.build_encoder({"kind": "mlp", "in_dim": 40, "hidden_dims": [128], "out_dim": 128}),
}
model = confu.MultimodalModel(plan, encoders, dim=64, fusion_dim=256)
objective = confu.ContrastiveObjective(model, confu.ConFuLoss(plan))
settings = confu.TrainSettings(epochs=8, batch_size=250, lr=2e-3)
confu.fit(objective, part(0, 3_000), part(3_000, 3_500), settings, folder)

confu.embed(confu.load_model(folder), part(3_500, 4_000), model_name="example").save(folder / "test.parquet")

table = confu.EmbeddingTable.load(folder / "test.parquet")  # from here on no model is needed
print(f"{len(table)} rows of {', '.join(map(str, table.subsets))}, dim {table.dim}")
target = plan.subset("design")
pairs = [(query, target) for query in table.subsets if not query & target]
for row in confu.evaluate_retrieval(table, ks=(1, 10), pairs=pairs):
    print(f"{row.metric:<11} {row.query:<19} -> {row.target}  {row.value:.3f}")
