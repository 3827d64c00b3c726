"""Several processes for one stage: `python -m posttrain.launch STAGE JOB.json`, under accelerate.

A step calls `run`. With one process the stage runs where it is called. With more, `run` writes a
job, lets accelerate start the processes, each of which calls the stage, and hands back what the
first of them made; an error of theirs is raised here as if the stage had been called.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from inspect import signature
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar, get_type_hints

import torch
from accelerate import PartialState
from pydantic import TypeAdapter

import posttrain
from posttrain import cost, spool
from posttrain.active_run import ActiveRun
from posttrain.failures import Failure, first_failure
from posttrain.models.device import device
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime
from posttrain.tracking import log_cost
from posttrain.train.interrupt import Interrupted, interruption
from posttrain.train.shortage import explained

P = ParamSpec("P")
Result = TypeVar("Result")

JOB, RESULT, ALIVE, ACCELERATE = "job.json", "result.json", "alive", "accelerate.json"
COUNTS = "counts.json"

PATIENCE = timedelta(hours=12)
"""How long processes wait for the one that writes; one that dies is noticed at once."""

POLL_SECONDS = 0.1


class Job(Section):
    """What each process reads: the stage's arguments, and the MLflow run of the step."""

    arguments: dict[str, Any]
    active_run: ActiveRun | None


def run(train: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
    """Call a stage, in as many processes as `POSTTRAIN_PROCESSES` says; what it makes has its cost.

    Args:
        train: a function of a module of ours, whose parameters and result have types.
        args: artifacts, plain values and the recipe's section.
        kwargs: more of them.

    Raises:
        ValueError: there are not as many GPUs.
        Interrupted: SIGTERM came; the processes saved where they were.
        DiskFull: a folder has no room.
        OutOfMemory: there is no more memory.
        Exception: what the stage raised.
    """
    with cost.measuring() as meter, explained(_name(train.__module__)):
        number = num_processes(Runtime.from_environment())
        made = train(*args, **kwargs) if number == 1 else _in(number, meter, train, args, kwargs)
    if (took := cost.keep(meter, made, (*args, *kwargs.values()))) is not None:
        log_cost(took)
    return made


def _in(
    number: int, meter: cost.Meter, train: Callable[..., Result], args: Any, kwargs: Any
) -> Result:
    """Call a stage in several processes, and add up what they counted."""
    runtime = Runtime.from_environment()
    runtime.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="launch-", dir=runtime.work.resolve()) as name:
        folder = Path(name)
        write_job(folder / JOB, train, *args, **kwargs)
        _write_config(folder, number, on_cpu=device(runtime).type == "cpu")
        try:
            _start_and_wait(train.__module__, folder, _environment(runtime, number), number)
        finally:
            spool.send_left()  # what the processes had no time for
        for file in folder.glob(f"*.{COUNTS}"):
            meter.add(cost.Counts.model_validate_json(file.read_bytes()))
        made = (folder / RESULT).read_bytes()
        result: Result = TypeAdapter(get_type_hints(train)["return"]).validate_json(made)
        return result


def write_job(file: Path, train: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Job:
    """Write what `python -m posttrain.launch STAGE JOB.json` reads: a call of the stage.

    Where torchrun starts the processes, on one node or on several, this is all that they need;
    the first of them leaves `result.json` beside it.
    """
    job = Job(arguments=_plain(train, args, kwargs), active_run=ActiveRun.find())
    file.write_text(job.model_dump_json(), encoding="utf-8")
    return job


def num_processes(runtime: Runtime) -> int:
    """How many are wanted here.

    Raises:
        ValueError: more than there are GPUs to place them on.
    """
    if device(runtime).type == "cpu":
        return 1 if runtime.processes == "auto" else runtime.processes
    num_gpus = torch.cuda.device_count()
    if runtime.processes == "auto":
        return num_gpus
    if runtime.processes > max(num_gpus, 1):
        raise ValueError(
            f"POSTTRAIN_PROCESSES={runtime.processes}, but torch finds {num_gpus} GPUs, and each "
            "process takes one; set it to auto"
        )
    return runtime.processes


def _name(module: str) -> str:
    """Of a stage: as its recipe's section is called."""
    return module.rpartition(".")[2]


def _plain(train: Callable[..., Any], args: Any, kwargs: Any) -> dict[str, Any]:
    """The arguments by name, as JSON holds them."""
    hints = get_type_hints(train)
    bound = signature(train).bind(*args, **kwargs).arguments
    return {
        name: TypeAdapter(hints[name]).dump_python(value, mode="json")
        for name, value in bound.items()
    }


def _write_config(folder: Path, number: int, on_cpu: bool) -> None:
    """Accelerate's configuration: a file of ours, or it would read the user's own."""
    config = {
        "compute_environment": "LOCAL_MACHINE",
        "distributed_type": "MULTI_GPU",  # of its launchers the one that needs no MPI
        "num_machines": 1,
        "num_processes": number,
        "main_process_port": 0,  # any that is free
        "mixed_precision": "no",  # the trainers say what they want
        "use_cpu": on_cpu,
        "debug": False,
    }
    (folder / ACCELERATE).write_text(json.dumps(config), encoding="utf-8")


def _environment(runtime: Runtime, number: int) -> dict[str, str]:
    """Variables of the processes: our own code, and a share of the threads."""
    threads = str(max(1, runtime.threads // number))
    root = str(Path(str(posttrain.__file__)).parent.parent)
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "POSTTRAIN_THREADS": threads,
        "OMP_NUM_THREADS": threads,
        "ACCELERATE_USE_CPU": str(device(runtime).type == "cpu").lower(),
    }


def _start_and_wait(stage: str, folder: Path, environment: dict[str, str], number: int) -> None:
    """Let the processes run to their end; none outlives this one, however it ends."""
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(folder / ACCELERATE), "--module"]
    command += ["posttrain.launch", stage, str(folder / JOB)]
    os.mkfifo(folder / ALIVE)
    alive = os.open(folder / ALIVE, os.O_RDWR)  # for reading too: else it waits for a reader
    with interruption() as asked:
        launcher = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C comes to us alone
        )
        relay = threading.Thread(target=_relay, args=[launcher.stdout], daemon=True)
        relay.start()
        told: set[int] = set()
        try:
            while launcher.poll() is None:
                if asked.asked:
                    _tell(folder, told)
                time.sleep(POLL_SECONDS)
        finally:
            os.close(alive)  # whoever still runs sees it, and ends
            launcher.wait()
            relay.join()
    if (folder / RESULT).exists() and launcher.returncode == 0:
        return
    failure = first_failure(folder, number)
    if asked.asked and not isinstance(failure, Interrupted):
        raise Interrupted(
            f"{stage} was ended where it could not save; run the same command again, it continues "
            "from its last checkpoint if there is one"
        ) from failure
    raise failure or RuntimeError(
        f"{stage}: accelerate ended with status {launcher.returncode}, and its processes left no "
        "word: ended from outside, or out of memory"
    )


def _tell(folder: Path, told: set[int]) -> None:
    """Hand SIGTERM on to each process, once; the launcher would end them within seconds."""
    for file in folder.glob("*.pid"):
        pid = int(file.stem)
        if pid not in told:
            told.add(pid)
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGTERM)


def _relay(stream: IO[bytes]) -> None:
    """What the processes say, through our own stream, which ZenML may record."""
    while part := os.read(stream.fileno(), 4096):
        sys.stderr.write(part.decode(errors="replace"))
        sys.stderr.flush()


def main() -> None:
    """One of the processes."""
    stage, file = sys.argv[1:]
    folder, rank = Path(file).parent, int(os.environ["RANK"])
    if (folder / ALIVE).exists():  # of `run`; torchrun looks after its processes itself
        _end_with(folder / ALIVE)
    (folder / f"{os.getpid()}.pid").touch()
    if rank > 0:
        _be_quiet(folder, rank)
    try:
        _work(stage, folder, rank)
    except BaseException as error:
        Failure.of(error).save(folder, rank)
        raise SystemExit(1) from error
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # all is written; libraries' threads that outlive the interpreter's own end abort it at times
    os._exit(0)


def _work(stage: str, folder: Path, rank: int) -> None:
    """Join the others, call the stage, and write what the first process made."""
    on_cpu = device(Runtime.from_environment()).type == "cpu"
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    job = Job.model_validate_json((folder / JOB).read_bytes())
    train = importlib.import_module(stage).train
    hints = get_type_hints(train)
    arguments = {
        name: TypeAdapter(hints[name]).validate_python(value)
        for name, value in job.arguments.items()
    }
    if rank == 0 and job.active_run is not None:
        job.active_run.join()
    with cost.measuring() as meter, explained(_name(stage)):
        result = train(**arguments)
    (folder / f"{rank}.{COUNTS}").write_text(meter.counts.model_dump_json(), encoding="utf-8")
    if rank == 0:
        (folder / RESULT).write_bytes(TypeAdapter(hints["return"]).dump_json(result))
    state.destroy_process_group()


def _be_quiet(folder: Path, rank: int) -> None:
    """Only the first process writes artifacts that stay, and lines that are read."""
    os.environ["POSTTRAIN_WORK"] = str(folder / f"work-{rank}")
    log = os.open(folder / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log, stream.fileno())


def _end_with(alive: Path) -> None:
    """End this process when nobody holds the pipe any more: whoever started us is gone."""
    pipe = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(pipe, True)

    def watch() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
