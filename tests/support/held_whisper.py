"""A speech engine whose steps a test lets happen."""

import threading

import anyio
from recordings import file_of, noise

from ark.engines.transcription import TranscriptionJob
from ark.errors import Unavailable


def job(seconds=1.0, **more):
    given = {"request_id": "test", "audio": file_of(noise(seconds)), "language": "en", "temperature": 0.0}
    return TranscriptionJob(**(given | more))


class Held:
    """A backend whose windows can be held and made to fail; it computes truly otherwise."""

    def __init__(self, path, *, workers=1, max_queue=256, **options):
        from ark_backends.whisper import Whisper, WhisperOptions
        from ark_backends.whisper.engine import WhisperEngine
        from ark_backends.whisper.recogniser import Recogniser

        held = self

        class Faulty(Recogniser):
            def encode(self, features):
                self.check()
                number = threading.current_thread().name
                held.windows.append(number)
                held.entered.set()
                assert held.gate.wait(60)
                if held.error is not None:
                    error = held.error
                    if not held.always:
                        held.error = None
                    raise error
                return super().encode(features)

        self.windows = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.error, self.always = None, False
        model = Faulty(str(path), device="cpu", compute_type="int8", cpu_threads=1, num_workers=workers)
        given = WhisperOptions(beam_size=1, max_new_tokens=6, condition_on_previous_text=False, **options)
        self.engine = WhisperEngine(model, given, workers=workers, max_queue=max_queue)
        self.backend = Whisper(self.engine, ("en",))
        self.engine.start()

    def hold(self):
        self.entered.clear()
        self.gate.clear()

    async def reached(self):
        """Until a window is held."""
        await anyio.to_thread.run_sync(self.entered.wait)

    async def fail(self, a_job, errors):
        """Run a job that fails, and note the code of its error."""
        try:
            await self.run(a_job)
        except Unavailable as error:
            errors.append(error.code)

    async def run(self, a_job, into=None, name=None):
        results = [result async for result in self.backend.transcribe(a_job)]
        if into is not None:
            into.append(name)
        return results

    async def until(self, condition):
        while not condition(self.backend.status()):  # noqa: ASYNC110 - threads set it
            await anyio.sleep(0.005)
