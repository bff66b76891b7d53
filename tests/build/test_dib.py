"""Progress of diskimage-builder, read from its output."""

from pipelines.build.dib import Progress

OWNERS = {
    "install.d/01-package-installs": ("base", "package-installs"),
    "post-install.d/50-compile-modules": ("driver", "nvidia-driver"),
}


def fed(*lines: tuple[float, str]) -> Progress:
    progress = Progress(owners=OWNERS)
    for now, text in lines:
        progress.line(text, now)
    return progress


def test_a_stage_is_timed_and_belongs_to_the_layer_of_its_element() -> None:
    progress = fed(
        (10.0, "dib-run-parts Running /tmp/in_target.d/install.d/01-package-installs"),
        (52.5, "dib-run-parts 01-package-installs completed"),
        (60.0, "2026-11-22 16:00:00.000 | dib-run-parts Running /tmp/in_target.d/post-install.d/50-compile-modules"),
        (200.0, "2026-11-22 16:02:20.000 | dib-run-parts 50-compile-modules completed"),
    )
    assert progress.stages == {
        "base/install.d/01-package-installs": 42.5,
        "driver/post-install.d/50-compile-modules": 140.0,
    }
    assert progress.layers() == {"base": 42.5, "driver": 140.0}


def test_the_failing_script_and_its_element_are_known_when_the_output_ends() -> None:
    progress = fed((1.0, "dib-run-parts Running /tmp/in_target.d/post-install.d/50-compile-modules"), (2.0, "no gcc"))
    assert (progress.current, progress.element) == ("post-install.d/50-compile-modules", "nvidia-driver")


def test_a_stage_of_our_own_is_timed_too() -> None:
    progress = fed()
    progress.start("convert", 100.0)
    progress.end(107.0)
    assert progress.stages == {"variant/convert": 7.0}


def test_while_a_layer_is_made_all_stages_are_its_own() -> None:
    progress = fed()
    progress.layer = "driver"
    progress.line("dib-run-parts Running /tmp/in_target.d/install.d/01-package-installs", 10.0)
    progress.line("dib-run-parts 01-package-installs completed", 12.0)
    assert progress.stages == {"driver/install.d/01-package-installs": 2.0}


def test_a_stage_that_comes_twice_in_a_layer_counts_twice() -> None:
    progress = fed()
    for started in (10.0, 20.0):
        progress.start("take from cache", started)
        progress.end(started + 3.0)
    assert progress.stages == {"variant/take from cache": 6.0}


def test_recent_lines_are_the_programs_own_without_traces_and_timestamps() -> None:
    progress = fed(
        (1.0, "+ set -e"),
        (1.0, "dib-run-parts Sourcing environment file x"),
        (1.0, "2026-11-22 16:00:00.000 | E: Unable to locate package nvidia-smi"),
        (1.0, ""),
        (2.0, "Unmount /builds/x/scratch/dib_build.1/mnt/sys"),
    )
    assert progress.recent == ["E: Unable to locate package nvidia-smi"]


def test_recent_lines_stay_few_however_long_the_log() -> None:
    progress = fed(*((float(number), f"line {number}") for number in range(1000)))
    assert len(progress.recent) == 40
    assert progress.recent[-1] == "line 999"
