"""What the whole-system tests share: the binary under test, where data lie, how to run a command, as whom, and how to wait."""
import json, os, pathlib, shutil, subprocess, sys, tempfile, time, unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SPARK = os.environ.get('SPARK_BINARY') or str(ROOT / 'build/spark')
SYNTHETIC = os.environ.get('SPARK_SYNTHETIC') or str(pathlib.Path(SPARK).resolve().parent / 'tools/synthetic-model/synthetic-model')
DATA = pathlib.Path(os.environ.get('SPARK_TEST_DATA') or ROOT / '../shared/data').resolve()
needs_data = unittest.skipUnless(DATA.is_dir(), f'no shared test data at {DATA}')

# The environment without what a service takes for settings or for its manager.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(('SPARK_', 'LISTEN_', 'NOTIFY_'))}

# Wrappers of a command: as a normal user, and where namespaces run out (in one whose own limit is 0, nobody makes another).
AS_USER = ['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups', '--']
NO_MORE = ['unshare', '--user', '--map-root-user', 'sh', '-c', 'echo 0 > /proc/sys/user/$0 && exec "$@"']
WITHOUT_NETWORKS = [*NO_MORE, 'max_net_namespaces']
WITHOUT_NAMESPACES = [*NO_MORE, 'max_user_namespaces']

# A network with nothing in it but loopback, which must be brought up. Who is not root gets it with a user namespace, and rights in it that
# DROPPED takes off again.
ALONE = ['unshare', *([] if os.geteuid() == 0 else ['--user', '--map-current-user', '--keep-caps']), '--net', sys.executable, '-c',
         'import fcntl, os, socket, struct, sys; fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 0x41)); os.execvp(sys.argv[1], sys.argv[1:])']
DROPPED = ['setpriv', '--ambient-caps', '-all', '--inh-caps', '-all', '--']


def can(*command):
    """Whether a wrapper works here."""
    return shutil.which(command[0]) is not None and subprocess.run([*command, 'true'], capture_output=True).returncode == 0


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


def wait_until(what, seconds=20, why=lambda: 'it did not come true'):
    """Asks what() until it is true, errors of things that are not there yet set aside; what it gave."""
    end = time.monotonic() + seconds
    while True:
        try:
            result = what()
        except (OSError, KeyError, IndexError):
            result = None
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f'after {seconds} s: {why()}')
        time.sleep(0.005)


class Folder(unittest.TestCase):
    """A test with a folder of its own in self.dir."""

    def setUp(self):
        self._tmp = tempfile.TemporaryDirectory()
        self.dir = pathlib.Path(self._tmp.name)
        self.addCleanup(self._tmp.cleanup)

    def binary(self):
        """The program in this folder, where every user may run it."""
        path = self.dir / 'spark'
        self.dir.chmod(0o755)
        shutil.copy(SPARK, path)
        path.chmod(0o755)
        return path
