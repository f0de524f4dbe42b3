"""What the whole-system tests share: the binary under test, where data lie, how to run a command."""
import json, os, pathlib, subprocess, tempfile, unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SPARK = os.environ.get('SPARK_BINARY') or str(ROOT / 'build/spark')
DATA = pathlib.Path(os.environ.get('SPARK_TEST_DATA') or ROOT / '../shared/data').resolve()
needs_data = unittest.skipUnless(DATA.is_dir(), f'no shared test data at {DATA}')


def spark(*args, stdin=b'', timeout=60, env=None, binary=None):
    """Runs the command; (exit code, stdout bytes, stderr text)."""
    p = subprocess.run([binary or SPARK, *map(str, args)], input=stdin, capture_output=True, timeout=timeout, env={**os.environ, **(env or {})})
    return p.returncode, p.stdout, p.stderr.decode('utf-8', 'replace')


def spark_json(*args, **kw):
    """The JSON object that a command prints; fails unless it exits 0."""
    code, out, err = spark(*args, **kw)
    if code:
        raise AssertionError(f'{args}: exit {code}: {err.strip()}')
    return json.loads(out)


def is_one_error_line(err):
    return err.startswith('spark: ') and err.count('\n') == 1 and err.endswith('\n')


class Folder(unittest.TestCase):
    """A test with a folder of its own in self.dir."""

    def setUp(self):
        self._tmp = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self._tmp.name)
        self.addCleanup(self._tmp.cleanup)
