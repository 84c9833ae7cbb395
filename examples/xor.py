"""What no pair of modalities shows: x3 = x1 xor x2, and the question is x2, given x1 and x3.

Any two of the three are independent, so aligning pairs learns nothing. ConFu aligns the fused x1+x3 with x2.
Prints the accuracy among all 32 candidates, beside the best that any predictor can reach.
"""

import tempfile

import torch

import confu
from confu import Subset
from confu_paper.datasets import xor, xor_candidates, xor_ceiling

NAMES = ("x1", "x2", "x3")
P = 1.0  # the share of rows in which x3 is the XOR; in the others x3 = x1
splits = xor(P, num_train=4_096, num_validation=1_024, num_test=2_000)


def accuracy(name: str, plan: confu.Plan) -> float:
    torch.manual_seed(0)
    encoders = {
        modality: confu.build_encoder({"kind": "mlp", "in_dim": 5, "hidden_dims": [128], "out_dim": 128})
        for modality in NAMES
    }
    model = confu.MultimodalModel(plan, encoders, dim=64, fusion="bilinear", fusion_dim=256)
    settings = confu.TrainSettings(epochs=6, batch_size=256, lr=1e-3)
    with tempfile.TemporaryDirectory() as folder:
        objective = confu.ContrastiveObjective(model, confu.ConFuLoss(plan))
        confu.fit(objective, splits.train, splits.validation, settings, folder, progress=False)
        best = confu.load_model(folder)
    table = confu.embed(best, splits.test)
    candidates = confu.embed(best, xor_candidates(), subsets=["x2"])
    query = Subset("x1", "x3")
    found = confu.evaluate_zero_shot(table, candidates["x2"], candidates.labels, Subset("x2"), [query])
    # Without a fusion network for x1+x3, its query is answered by the mean of the two embeddings.
    asked = str(query) if query in table else "mean(x1, x3)"
    value = next(row.value for row in found.rows if row.query == asked)
    print(f"{name:<10} {asked:<13} accuracy {value:.3f}")
    return value


if __name__ == "__main__":
    print(f"{'ceiling':<10} {'':<13} accuracy {xor_ceiling(P):.3f}")
    accuracy("ConFu", confu.confu_plan(NAMES))
    accuracy("pairwise", confu.pairwise_plan(NAMES))
