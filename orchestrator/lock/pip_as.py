"""Run pip as if on another interpreter: a child process, ``python pip_as.py MARKERS ARGUMENTS…``.

pip's ``--python-version`` and ``--platform`` choose wheels, but the markers of dependencies (``python_version <
"3.12"``) are answered by the interpreter that runs pip. Here they are answered by ``MARKERS``, a JSON object.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    """Put the markers in place, see that pip heeds them, and hand over to pip."""
    try:
        from pip._internal.cli.main import main as pip  # noqa: PLC0415 - in this process there is nothing else
        from pip._vendor.packaging import markers  # noqa: PLC0415
    except ImportError as error:
        sys.stderr.write(f"ERROR: this interpreter ({sys.executable}) has no pip: {error}\n")
        return 2
    answers: dict[str, str] = json.loads(sys.argv[1])
    asked = markers.default_environment
    markers.default_environment = lambda: {**asked(), **answers}  # type: ignore[assignment,typeddict-item,unused-ignore]
    if not all(markers.Marker(f'{name} == "{value}"').evaluate() for name, value in answers.items()):
        sys.stderr.write("ERROR: this pip does not let markers be answered for another interpreter\n")
        return 2
    return pip(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
