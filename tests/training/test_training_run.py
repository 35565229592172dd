# SPDX-License-Identifier: Apache-2.0
"""Whole runs on eight small scenes: learning, resuming, starting from an encoder, telling problems."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub

from pc_perception.inference.loading import load_model
from pc_perception.inference.model_file import read_model_file
from training.assembly import assemble
from training.checkpoint import load_state
from training.data.specs import open_data
from training.evaluate import main as evaluate_main
from training.evaluate.segmentation import evaluate
from training.methods.segmentation import Segmentation
from training.progress import Progress, rate
from training.run import main, train
from training.settings import RunSettings, read_config

MakeRun = Callable[..., RunSettings]


def tensors_of(work_dir: Path) -> dict[str, torch.Tensor]:
    return read_model_file(work_dir / "model.safetensors")[1]


def test_it_learns_and_the_model_file_works(make_run: MakeRun, street_folder: Path) -> None:
    run = make_run(max_steps=50, lr=1e-2, ema=0.8)
    model = load_model(train(run), "cpu")
    data = open_data(run.data, run.data_options())[0]
    found = evaluate(model, data)
    assert found.mean_iou() > 0.6  # 0.11 for one class everywhere
    header, _ = read_model_file(Path(run.work_dir) / "model.safetensors")
    assert header.contract.seen["points"][1] == pytest.approx(2380, abs=5)
    assert header.provenance["data"] == f"folder:{street_folder.name}"
    assert header.provenance["steps"] == 50
    result = model(data[0])
    assert result.labels.shape == (len(data[0]),)
    assert list(Path(run.work_dir).glob("events*"))  # TensorBoard


def test_resume_equals_an_uninterrupted_run(
    make_run: MakeRun, tmp_path: Path, train_and_die: Callable[[RunSettings], None]
) -> None:
    whole = make_run(max_steps=8, work_dir=str(tmp_path / "whole"))
    train(whole)
    half = replace(whole, work_dir=str(tmp_path / "half"), checkpoint_steps=4, checkpoint_minutes=0.0)
    train_and_die(half)
    assert load_state(half.work_dir)["step"] == 4
    train(replace(half, resume=True))
    a, b = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "half")
    assert all(torch.equal(a[name], b[name]) for name in a)
    one, other = load_state(whole.work_dir), load_state(half.work_dir)
    assert all(torch.equal(v, other["model"][k]) for k, v in one["model"].items())


def test_a_new_run_keeps_what_an_earlier_one_left(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = make_run(max_steps=2, work_dir=str(folder))
    train(first)
    before = (folder / "model.safetensors").read_bytes()
    train(replace(first, seed=1))
    assert (folder / "earlier-model.safetensors").read_bytes() == before
    assert (folder / "model.safetensors").read_bytes() != before
    assert (folder / "earlier-last.pth").is_file()
    log = "".join(path.read_text() for path in folder.glob("*/*.log"))
    assert "'model.safetensors' of an earlier run in" in log
    assert "is now 'earlier-model.safetensors'" in log
    train(replace(first, work_dir=str(tmp_path / "new"), resume=True))
    assert "beginning anew" in "".join(path.read_text() for path in tmp_path.glob("new/*/*.log"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_the_step_that_it_meets(make_run: MakeRun, number: signal.Signals) -> None:
    class Sender(Hook):
        def after_train_iter(self, runner: object, batch_idx: int, *args: object, **named: object) -> None:
            if batch_idx == 1:
                signal.raise_signal(number)

    before = signal.getsignal(number)
    run = make_run(max_steps=50)
    runner = assemble(run, open_data(run.data, run.data_options()))
    runner.register_hook(Sender())
    runner.train()
    state = load_state(run.work_dir)
    assert state is not None
    assert state["step"] == runner.iter == 2
    assert signal.getsignal(number) == before


def test_the_seed_decides(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        make_run(max_steps=3, seed=s, work_dir=str(tmp_path / n)) for n, s in (("a", 1), ("b", 1), ("c", 2))
    ]
    for run in runs:
        train(run)
    a, b, c = (tensors_of(tmp_path / n) for n in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_accumulation_makes_fewer_steps(make_run: MakeRun) -> None:
    run = make_run(max_steps=4, accumulate=2, ema=0.0)
    train(run)
    assert load_state(run.work_dir)["averaged"] == 2


def test_init_takes_the_encoder_that_fits(make_run: MakeRun, tmp_path: Path) -> None:
    first = make_run(max_steps=2, work_dir=str(tmp_path / "first"))
    model = train(first)
    second = make_run(
        max_steps=1,
        lr=1e-12,
        warm_up=0.0,
        ema=0.0,
        seed=9,
        work_dir=str(tmp_path / "second"),
        init=str(model),
    )
    train(second)
    a, b = tensors_of(tmp_path / "first"), tensors_of(tmp_path / "second")
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a if name.startswith("encoder."))
    other = {**first.encoder, "widths": (16, 24, 40)}
    coarse = replace(first.contract, grid_m=0.5)
    wider = make_run(
        contract=coarse, max_steps=1, encoder=other, work_dir=str(tmp_path / "wider"), init=str(model)
    )
    train(wider)
    log = next((tmp_path / "wider").rglob("*.log")).read_text()
    assert re.search(
        r"not loaded: .*encoder\.down\.1\.1\.weight: \(32, 24\) in the file, \(40, 24\) here", log
    )
    assert "its input differs, grid_m 0.4 in the file, 0.5 here" in log


def test_bad_samples_are_named_and_counted(make_run: MakeRun, street_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in street_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "broken.npz").write_bytes(b"PK no archive")
    (folder / "broken.pcd").write_bytes(b"not a pcd")
    with pytest.raises(ValueError, match=r"samples could not be used .* more than 1%.*broken\.pcd"):
        train(make_run(data=f"folder:{folder}", max_steps=40))
    assert "broken.pcd" in (tmp_path / "run" / "bad_samples.txt").read_text()


def test_time_ends_a_run(make_run: MakeRun) -> None:
    run = make_run(max_steps=0, max_minutes=0.01)
    train(run)
    assert 0 < load_state(run.work_dir)["step"] < 400
    assert MessageHub.get_current_instance().get_info("eta") < 1.0  # not that of a billion steps


def test_schedule() -> None:
    assert rate(0.0, 0.1) < 0.01
    assert rate(0.1, 0.1) == pytest.approx(1.0)
    assert rate(0.55, 0.1) == pytest.approx(0.5025)
    assert rate(1.0, 0.1) == pytest.approx(0.005)
    assert Progress(10, 0).fraction(5) == 0.5
    assert Progress(10, 1.0, elapsed_s=54).fraction(5) == pytest.approx(0.9, abs=0.01)


def test_configs_and_overrides() -> None:
    run = read_config(
        "street_sim", ["lr=1", "method.lovasz=0", "encoder.heads=8", "data_shares=0.5,2", "resume=true"]
    )
    assert (run.lr, run.method.lovasz, run.encoder["heads"], run.data_shares) == (1.0, 0.0, 8, (0.5, 2.0))
    assert run.resume is True
    assert read_config("street_sim", ["max_minutes=2.5"]).max_minutes == 2.5  # the config file says 95
    assert read_config("room_sim").contract.level_camera
    assert read_config("street_sim", ["augmentation.max_points=5000"]).augmentation.max_points == 5000


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["speed=3"], "no setting 'speed'"),
        (["lr=fast"], "type float"),
        (["max_steps"], "not key=value"),
        (["lr.x=1"], "too deep"),
        (["max_steps=0", "max_minutes=0"], "never ends"),
        (["label_set=street9"], "no label set"),
        (["method.speed=1"], "no setting 'method.speed'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(
    overrides: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["street_sim", *overrides]) == 1
    told = capsys.readouterr().err
    assert problem in told
    assert told.count("\n") == 1


def test_no_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no_such"]) == 1
    assert "street_sim" in capsys.readouterr().err


def test_evaluate_prints_mean_and_spread(
    make_run: MakeRun, tmp_path: Path, street_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [str(train(make_run(max_steps=2, seed=s, work_dir=str(tmp_path / str(s))))) for s in (0, 1)]
    arguments = [*models, "--data", f"folder:{street_folder}", "--limit", "2", "--device", "cpu"]
    assert evaluate_main(arguments) == 0
    table = capsys.readouterr().out
    assert "±" in table
    assert "Not in the ground truth: sidewalk, terrain, vegetation, person" in table
    assert evaluate_main([*arguments, "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    values = [each["miou"] for each in plain["each"]]
    assert plain["summary"]["miou"] == pytest.approx([np.mean(values), np.std(values, ddof=1)])
    assert evaluate_main(["no_model", "--data", "sim:street"]) == 1
    assert "no model 'no_model'" in capsys.readouterr().err


def test_a_loss_that_is_no_number_is_named_and_the_last_checkpoint_kept(
    make_run: MakeRun,
) -> None:
    run = make_run(max_steps=6, checkpoint_steps=2)
    train(run)
    kept = load_state(run.work_dir)
    assert kept is not None
    with pytest.raises(
        ValueError, match=r"not finite at step \d+ \(loss_lovasz = nan\); the last checkpoint"
    ):
        train(replace(run, method=Segmentation(lovasz=float("nan")), max_steps=12, resume=True))
    after = load_state(run.work_dir)
    assert after is not None
    assert after["step"] == kept["step"] == 6


def test_bfloat16_runs_the_forward_pass_alone(make_run: MakeRun) -> None:
    # On the CPU, by the same wrapper as on a GPU.
    run = make_run(max_steps=3, amp=True)
    runner = assemble(run, open_data(run.data, run.data_options()))
    seen: list[bool] = []
    first = next(m for m in runner.model.modules() if isinstance(m, torch.nn.Linear))
    first.register_forward_hook(lambda *_: seen.append(torch.is_autocast_enabled("cpu")))
    before = first.weight.detach().clone()
    runner.train()
    assert seen
    assert all(seen)
    assert first.weight.dtype == torch.float32
    assert not torch.equal(first.weight, before)
    assert not torch.is_autocast_enabled("cpu")
