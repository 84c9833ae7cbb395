"""Which epoch is the better model: that of the least validation loss, or of the highest mean reciprocal rank.

    .venv/bin/python benchmarks/selection.py TABLE.parquet --columns a,b,c --seeds 3

Each seed is trained twice from the run file that `confu init` proposes, with the same steps; validation rows choose,
and the test rows are looked at once for each choice: recall@10 and the mean reciprocal rank, means over one-to-one and
two-to-one queries. The table needs test rows: a column `split`, or the shares of the run file.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev

import torch

from confu.evaluation import evaluate_retrieval, retrieval_means
from confu.inference import embed
from confu.runs import init, train
from confu.runs.prepare import open_run
from confu.training.log import best_record, read_log

METRICS = ("recall@10", "mean reciprocal rank")


def measured(folder: Path) -> dict[str, float]:
    """What the chosen epoch of a run gives on the test rows."""
    run = open_run(folder)
    rows = evaluate_retrieval(embed(run.model, run.splits.test), ks=(10,))
    return {f"{row.metric} {row.query}": row.value for row in retrieval_means(rows) if row.metric in METRICS}


def main() -> None:
    """Train, choose, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--columns", help="with commas; all that `confu init` takes by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="sets", help="a setting of the run file")
    parser.add_argument("--out", type=Path, default=Path("runs/selection"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = None if options.columns is None else options.columns.split(",")
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {"loss": [], "retrieval": []}
    for seed in range(options.seeds):
        file = options.out / f"seed{seed}.yaml"
        folder = str((options.out / f"seed{seed}").absolute())
        run = init(options.table, file, columns=columns, seed=seed, folder=folder, overwrite=True).run
        for select, values in results.items():
            sets = [*options.sets, f"train.select={select}", f"out={run.out}-{select}"]
            trained = train(run, sets, progress=False)
            values.append(measured(trained))
            records = read_log(trained, "validation")
            best = best_record(records)
            print(f"seed {seed}, by {select}: epoch {best['epoch']} of {len(records)}, {values[-1]}", flush=True)
    for name in results["loss"][0]:
        by_loss, by_rank = ([values[name] for values in results[select]] for select in ("loss", "retrieval"))
        gain = [after - before for before, after in zip(by_loss, by_rank)]
        spread = stdev(gain) if len(gain) > 1 else float("nan")
        means = f"by loss {fmean(by_loss):.4f}  by retrieval {fmean(by_rank):.4f}  gain {fmean(gain):+.4f}"
        print(f"{name:<28} {means} (deviation over seeds {spread:.4f})")


if __name__ == "__main__":
    main()
