"""A running `spark serve` for tests: started on a port of its own, with a key, stopped at the end. Where a flag of the command
line is needed, it is named here and nowhere else."""
import contextlib, os, pathlib, re, signal, socket, subprocess, tempfile, time, urllib.request

from support import SPARK, spark

HAS_SERVE = spark('serve', '--help')[0] == 0


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def new_key(keys, *options):
    """Makes a key in the file `keys` and returns its text."""
    code, out, err = spark('key', 'new', '--keys', keys, *options)
    found = re.search(r'sk-spark-[a-z2-7]+-[a-z2-7]+', out.decode())
    if code or not found:
        raise AssertionError(f'spark key new: exit {code}: {err.strip()}')
    return found[0]


def processes(pid):
    """The process and all that came from it."""
    parent = {}
    for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
        with contextlib.suppress(OSError):
            parent[int(path.parent.name)] = int(path.read_text().rpartition(')')[2].split()[1])
    found = [pid]
    for p in found:
        found += [child for child, of in parent.items() if of == p]
    return found


class Service:
    """models: {name: file, None = the embedded one}. Context manager; `base`, `key`, `socket` and `pid` tell where it is."""

    def __init__(self, models, *options, binary=SPARK):
        self.models, self.options, self.binary = models, options, binary

    def __enter__(self):
        self.tmp = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.tmp.name)
        self.keys, self.socket, self.port = folder / 'keys', folder / 'socket', free_port()
        self.key = new_key(self.keys)
        self.base = f'http://127.0.0.1:{self.port}'
        self.log = open(folder / 'log', 'w+b')
        models = [a for name, file in self.models.items() for a in ('--model', f"{name}={file or ''}")]
        self.process = subprocess.Popen([str(a) for a in (self.binary, 'serve', *models, '--keys', self.keys, '--listen', f'unix:{self.socket}',
                                                          '--listen', f'tcp:127.0.0.1:{self.port}', *self.options)],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={k: v for k, v in os.environ.items() if not k.startswith('SPARK_')}) # serve takes such variables for settings
        self.pid = self.process.pid
        try:
            self.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def wait_ready(self, seconds=60):
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise AssertionError(f'spark serve: exit {self.process.returncode}: {self.said()}')
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(self.base + '/health/ready', timeout=2) as r:
                    if r.status == 200:
                        return
            time.sleep(0.01)
        raise AssertionError(f'not ready within {seconds} s: {self.said()}')

    def said(self):
        """The end of its log."""
        self.log.flush()
        return pathlib.Path(self.log.name).read_text(errors='replace')[-2000:]

    def close(self):
        """Drains and stops it; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        self.tmp.cleanup()
        return self.process.returncode

    def __exit__(self, *_):
        self.close()
