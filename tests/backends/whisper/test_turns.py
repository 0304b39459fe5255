"""Whose turn it is."""

import threading

from ark_backends.whisper.turns import Turns


class Line:
    """Threads that stand in line one behind the other, and note when they get their turns."""

    def __init__(self, turns):
        self.turns = turns
        self.noted = []
        self.threads = []

    def join(self, name, steps):
        waiting = len(self.turns._waiting)

        def run():
            self.turns.take()
            for step in range(steps):
                self.noted.append(name)
                if step + 1 < steps:
                    self.turns.pass_on()
            self.turns.give()

        thread = threading.Thread(target=run)
        thread.start()
        self.threads.append(thread)
        while len(self.turns._waiting) == waiting and thread.is_alive():
            threading.Event().wait(0.001)

    def end(self):
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def test_turns_go_round():
    turns = Turns(1)
    turns.take()
    line = Line(turns)
    line.join("long", 5)
    line.join("short", 1)
    line.join("middle", 2)
    turns.give()
    line.end()
    assert line.noted == ["long", "short", "middle", "long", "middle", "long", "long", "long"]


def test_alone_nobody_waits():
    turns = Turns(1)
    turns.take()
    turns.pass_on()
    turns.give()
    turns.take()
    turns.give()


def test_so_many_at_once_and_no_more():
    turns = Turns(3)
    lock = threading.Lock()
    inside, most = 0, 0

    def run():
        nonlocal inside, most
        turns.take()
        for _ in range(50):
            with lock:
                inside += 1
                most = max(most, inside)
            with lock:
                inside -= 1
            turns.pass_on()
        turns.give()

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert 1 <= most <= 3
    assert turns._free == 3
