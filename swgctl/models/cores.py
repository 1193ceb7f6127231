"""Independent tasks on the cores of a processor, each with a core of its own."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

import torch


def each(task: Callable[[int], object], count: int) -> None:
    """Call task(0), ..., task(count - 1), each once, on as many threads as PyTorch gives to one operation here.

    A task has its part of them for its operations: one where there are as many tasks as threads.  Small operations gain
    little from several threads, which wait for each other at every one; whole networks wait once.  Tasks run without
    autograd, in any order; those of one thread see each other's memory while it is in that core's cache.
    """
    threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()
    part, rest = max(1, threads // count), iter(range(count))

    def work() -> None:
        torch.set_num_threads(part)
        with torch.inference_mode(inference), torch.no_grad():  # both are a thread's own
            for i in rest:
                task(i)

    others = min(threads, count) - 1
    helping = [_helpers(others).submit(work) for _ in range(others)]
    try:
        work()
    finally:
        begun = [helper for helper in helping if not helper.cancel()]  # the others have nothing left to do
        wait(begun)
        torch.set_num_threads(threads)
    for helper in begun:
        helper.result()


@cache
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "swgctl-core")
