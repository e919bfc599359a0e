"""Evaluates the settings of a grid, setting by setting: those that an earlier attempt finished are not done again."""

from dataclasses import replace

import pyarrow as pa

from services.evaluator import grid
from services.evaluator.evaluation import Evaluation
from services.evaluator.grid import Grid
from services.evaluator.run_results import Run, RunResults, runs_of
from services.evaluator.scores import score_run
from services.evaluator.scratch import Scratch
from services.evaluator.snapshot import Snapshot
from shared.evaluation.index_setting import IndexSetting
from shared.evaluation.report import SettingReport
from shared.evaluation.retrieval_metrics import Bools
from shared.messaging.worker import WorkerClients


class GridEvaluator:
    """Evaluates grids on a snapshot of the collection."""

    def __init__(self, clients: WorkerClients, scratch: Scratch) -> None:
        self._clients, self._scratch = clients, scratch

    def evaluate(
        self, evaluation: Evaluation, *, without_copies: Bools
    ) -> tuple[tuple[SettingReport, ...], list[pa.Table]]:
        """Return what is known of each setting with the scores of its runs, and the rows of all runs.

        Args:
            evaluation: Whose request has the grid.
            without_copies: Which queries have no copy in the collection, bool [q].
        """
        embedding_set = self._clients.catalog.get(evaluation.collection.name)
        snapshot = Snapshot.take(embedding_set, store=self._clients.store, state=self._clients.state)
        searched: Grid | None = None
        try:
            snapshot.classify(evaluation.classes.texts(evaluation.collection.name))
            searched = Grid(
                evaluation.id,
                embedding_set,
                snapshot,
                evaluation.queries,
                buckets=self._clients.state.buckets,
                k=evaluation.request.k,
                seed=evaluation.request.seed,
            )
            exact = searched.exact()
            reports, tables = [], []
            for number, setting in enumerate(evaluation.request.grid):
                report, results = self._evaluate_setting(evaluation, searched, number, setting)
                scores = []
                for run in runs_of(f"grid{number}"):
                    run_scores, rows = score_run(
                        run,
                        results[run.id],
                        exact[Run("exact", run.metric, run.distractors).id],
                        evaluation.queries,
                        report.index,
                        without_copies=without_copies,
                        seed=evaluation.request.seed,
                    )
                    scores.append(run_scores)
                    tables.append(rows)
                    evaluation.progress.check()
                reports.append(replace(report, runs=tuple(scores)))
            return tuple(reports), tables
        finally:
            if searched is not None:
                searched.close()
            snapshot.close()

    def _evaluate_setting(
        self, evaluation: Evaluation, searched: Grid, number: int, setting: IndexSetting
    ) -> tuple[SettingReport, dict[str, RunResults]]:
        """Return what an earlier attempt found of a setting, or evaluate the setting and keep the results."""
        checkpoints, progress = evaluation.checkpoints, evaluation.progress
        report = checkpoints.setting(number)
        if report is not None:
            kept = {run.id: checkpoints.results(run.id) for run in runs_of(f"grid{number}")}
            progress.step(grid.step_count(1))
            return report, {run_id: results for run_id, results in kept.items() if results is not None}
        self._scratch.begin(evaluation.id)
        report, results = searched.evaluate(number, setting, step=progress.step, check=progress.check)
        for run_id, run_results in results.items():
            checkpoints.put_results(run_id, run_results)
        checkpoints.put_setting(number, report)
        return report, results
