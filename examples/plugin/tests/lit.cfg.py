"""lit: the pass on text. Run `lit -sv examples/plugin/tests` where the plug-in is installed."""

import os
import sys
import tempfile

import lit.formats

config.name = "flambeau-example"  # noqa: F821
config.test_format = lit.formats.ShTest(execute_external=False)  # noqa: F821
config.substitutions.append(("flambeau-opt", f"{sys.executable} -m flambeau.compiler.opt"))  # noqa: F821
config.suffixes = [".mlir"]  # noqa: F821
config.test_source_root = os.path.dirname(__file__)  # noqa: F821
config.test_exec_root = tempfile.mkdtemp()  # noqa: F821
for name, value in (("PATH", os.path.dirname(sys.executable)), ("PYTHONPATH", "")):
    parts = filter(None, [value, os.environ.get(name)])
    config.environment[name] = os.pathsep.join(parts)  # noqa: F821
