"""The making of outputs in the background: inputs are fetched, clips rendered, elements made."""

import hashlib
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from wavespeed_sandbox import media
from wavespeed_sandbox.book import Book
from wavespeed_sandbox.clock import Clock
from wavespeed_sandbox.models import JsonObject
from wavespeed_sandbox.predictions import Prediction, Predictions
from wavespeed_sandbox.render import Abandoned, Clip, render

logger = logging.getLogger(__name__)

EXECUTION_FAILED = 1403
_ASPECTS = {"16:9": (16, 9), "9:16": (9, 16), "1:1": (1, 1)}


class Workshop:
    """Makes what predictions promise; `ordered` may be called any number of times for the same one."""

    def __init__(self, book: Book, predictions: Predictions, clock: Clock, long_side: int) -> None:
        self._predictions = predictions
        self._clock = clock
        self._long_side = long_side
        self._outputs = book.data_dir / "outputs"
        self._inputs = book.data_dir / "inputs"
        self._outputs.mkdir(exist_ok=True)
        self._inputs.mkdir(exist_ok=True)
        self._fetching = ThreadPoolExecutor(4, thread_name_prefix="sandbox-fetch")
        self._rendering = ThreadPoolExecutor(1, thread_name_prefix="sandbox-render")
        self._in_hand: set[str] = set()
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def resume(self) -> None:
        """Take up everything that an earlier process left unfinished."""
        for prediction in self._predictions.to_make():
            self.ordered(prediction.id)

    def stop(self) -> None:
        self._stopping.set()
        self._fetching.shutdown(wait=True, cancel_futures=True)
        self._rendering.shutdown(wait=True, cancel_futures=True)

    def output(self, prediction: Prediction) -> Path:
        return self._outputs / f"{prediction.id}.mp4"

    def ordered(self, prediction_id: str) -> None:
        with self._lock:
            if prediction_id in self._in_hand:
                return
            self._in_hand.add(prediction_id)
        if not self._stopping.is_set():
            self._fetching.submit(self._fetch, prediction_id)

    def _fetch(self, prediction_id: str) -> None:
        """First half: bring the images here. The second half waits for its turn at the renderer."""
        try:
            prediction = self._predictions.find(prediction_id)
            if prediction is None or not self._has_inputs(prediction):
                return self._lay_down(prediction_id)
            self._predictions.mark_fetched(prediction_id)
            self._rendering.submit(self._make, prediction_id)
        except Exception:
            self._lay_down(prediction_id)
            logger.exception("Prediction %s could not be made ready; asking for its result tries again.", prediction_id)

    def _has_inputs(self, prediction: Prediction) -> bool:
        """Fetch what is not here yet; a task whose images can't be had fails."""
        try:
            for index, url in enumerate(prediction.model.image_urls(prediction.inputs)):
                kept = self._input(prediction, index)
                if not kept.exists():
                    _write_whole(kept, media.fetch(url))
        except media.Unusable as problem:
            self._predictions.fail(prediction.id, problem.code, str(problem), self._clock.now())
            return False
        return True

    def _make(self, prediction_id: str) -> None:
        try:
            prediction = self._predictions.find(prediction_id)
            if prediction is None or prediction.outcome != "completed" or prediction.made:
                return
            if prediction.model.makes == "element":
                self._predictions.mark_element(prediction_id, _element(prediction))
            else:
                self._render(prediction)
        except Abandoned:
            return  # stopping: the next process makes it
        except (OSError, ValueError) as error:
            message = f"task execution failed: {error}"
            self._predictions.fail(prediction_id, EXECUTION_FAILED, message, self._clock.now())
        finally:
            self._lay_down(prediction_id)

    def _lay_down(self, prediction_id: str) -> None:
        with self._lock:
            self._in_hand.discard(prediction_id)

    def _render(self, prediction: Prediction) -> None:
        path = self.output(prediction)
        unfinished = path.with_suffix(".part")
        render(self._clip(prediction), unfinished, abandoned=self._stopping.is_set)
        with unfinished.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        unfinished.rename(path)
        self._predictions.mark_rendered(prediction.id, digest, path.stat().st_size)

    def _input(self, prediction: Prediction, index: int) -> Path:
        return self._inputs / f"{prediction.id}-{index}"

    def _clip(self, prediction: Prediction) -> Clip:
        inputs = prediction.inputs
        images = [
            self._input(prediction, index).read_bytes() for index, _ in enumerate(prediction.model.image_urls(inputs))
        ]
        has_end = bool(inputs.get("end_image"))
        return Clip(
            long_side=min(self._long_side, prediction.model.max_long_side or self._long_side),
            durations=[shot["duration"] for shot in inputs.get("multi_prompt") or []] or [inputs["duration"]],
            sound=bool(inputs.get("sound")),
            seed=int(hashlib.sha256(str(inputs.get("prompt", "")).encode()).hexdigest()[:8], 16),
            comment=prediction.id,
            start=images[0] if images else None,
            end=images[1] if has_end else None,
            aspect=_ASPECTS[inputs.get("aspect_ratio", "16:9")],
        )


def _element(prediction: Prediction) -> JsonObject:
    return {
        "element_id": 300_000_000_000_000 + int(prediction.id[:11], 16) % 10**13,
        "element_name": prediction.inputs["name"],
        "element_description": prediction.inputs["description"],
        "reference_type": "image_refer",
        "element_image_list": {"frontal_image": prediction.inputs["image"]},
    }


def _write_whole(path: Path, content: bytes) -> None:
    """All of the bytes or no file."""
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(content)
    unfinished.rename(path)
