"""The ``medi`` command: parse, call, print. torch is imported only inside the commands that need it."""

import logging
import signal
import sys
from io import TextIOWrapper

import typer

from medi_build.cli import cache, ls, versions
from medi_build.cli.blame import blame_command
from medi_build.cli.branch import branch_command
from medi_build.cli.browse import browse_command
from medi_build.cli.build import REAL_MEDI, build_command
from medi_build.cli.checkout import checkout_command
from medi_build.cli.commit import commit_command
from medi_build.cli.compare_release import compare_release_command
from medi_build.cli.console import CONSOLE, print_error
from medi_build.cli.contamination import contamination_command
from medi_build.cli.content import new_source_command, validate_command
from medi_build.cli.diff import diff_command
from medi_build.cli.encode import encode_command
from medi_build.cli.eval import commands as eval_commands
from medi_build.cli.exits import Exit
from medi_build.cli.explain import explain_command
from medi_build.cli.export import export_command
from medi_build.cli.gc import gc_command
from medi_build.cli.lint import lint_command
from medi_build.cli.lock import lock_command
from medi_build.cli.log import log_command
from medi_build.cli.mine import mine_command
from medi_build.cli.options import SAMPLES
from medi_build.cli.plan import plan_command
from medi_build.cli.pull import pull_command
from medi_build.cli.purge import purge_command
from medi_build.cli.push import push_command
from medi_build.cli.quantize import quantize_command
from medi_build.cli.report import report_command
from medi_build.cli.root import Root
from medi_build.cli.show import show_command
from medi_build.cli.stop import Stopped, has_ended, heed_signals
from medi_build.cli.tag import tag_command
from medi_build.cli.train import EXTRA_OPTIONS, train_command
from medi_build.cli.verify import verify_command
from medi_build.errors import MediError
from medi_build.secrets import redacted

app = typer.Typer(
    help="Build MEDI-style training data for instruction-tuned text embeddings, and train on it.",
    epilog=f"Next: `medi build` builds the samples that come along into out/{SAMPLES}, in a minute and without "
    f"network; `{REAL_MEDI}` builds the real MEDI from raw files in DIR.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    cls=Root,
)
app.command("build")(build_command)
app.command("plan")(plan_command)
app.command("lock")(lock_command)
app.command("verify")(verify_command)
app.command("report")(report_command)
app.command("explain")(explain_command)
app.command("browse")(browse_command)
app.command("export")(export_command)
app.command("push")(push_command)
app.command("pull")(pull_command)
app.command("compare-release")(compare_release_command)
app.add_typer(ls.commands(), name="ls")
app.command("show")(show_command)
app.command("validate")(validate_command)
app.command("lint")(lint_command)
app.command("new-source")(new_source_command)
app.add_typer(eval_commands(), name="eval")
app.command("contamination")(contamination_command)
app.add_typer(cache.commands(), name="cache")
app.command("mine")(mine_command)
app.command("encode")(encode_command)
app.command("quantize")(quantize_command)
app.command("train", context_settings=EXTRA_OPTIONS)(train_command)
app.command("commit")(commit_command)
app.command("log")(log_command)
app.command("tag")(tag_command)
app.command("branch")(branch_command)
app.command("checkout")(checkout_command)
app.command("diff")(diff_command)
app.command("blame")(blame_command)
app.command("gc")(gc_command)
app.command("purge")(purge_command)
app.add_typer(versions.commands(), name="versions")


def main() -> None:
    """Run the command; an error is one clear message; codes are those of `medi_build.cli.exits`."""
    heed_signals()
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is no reason to stop
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in ("torchao", "torch.utils._pytree"):  # at import they tell of GPU kernels that nobody asked for
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        app()
    except MediError as error:
        print_error(type(error).__name__, str(error))
        sys.exit(Exit.FOUND)
    except OSError as error:  # one that no stage could say more about
        print_error(type(error).__name__, redacted(f"{error.filename or 'input or output'}: {error.strerror or error}"))
        sys.exit(Exit.FOUND)
    except Stopped as stopped:
        has_ended()
        (number,) = stopped.args
        CONSOLE.print(
            f"stopped by {signal.Signals(number).name}; what is finished is kept, the same command goes on from there",
        )
        sys.exit(Exit(128 + number))
