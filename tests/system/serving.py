"""A running `spark serve` for tests: starts it, waits until it is ready, asks it, looks at its processes, ends it."""
import contextlib, http.client, json, os, pathlib, re, signal, socket, subprocess, tempfile, threading, time

from support import CLEAN, SPARK, SYNTHETIC, spark, wait_until


def ports(log, host):
    """Those of the addresses on this host that a service tells it listens on, in their order: where the system chooses (port 0)."""
    return [int(p) for p in re.findall(r'(?m)^spark: listening on \w+://%s:(\d+)$' % re.escape(host), log)]


def new_key(keys, *options):
    """Makes a key in the file `keys`; its text."""
    code, out, err = spark('key', 'new', '--keys', keys, *options)
    if code:
        raise AssertionError(f'spark key new: exit {code}: {err.strip()}')
    return out.decode().strip()


def chat_model(folder):
    """A model with random weights, a chat template and 8192 positions."""
    path = pathlib.Path(folder) / 'chat.gguf'
    subprocess.run([SYNTHETIC, 'tiny-llama', 'q4_0', path], check=True)
    return path


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


def resident(pid):
    """Bytes, without clean pages of the embedded model's file: what the plan is about."""
    fields = dict(line.split(':') for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines())
    return int(fields['VmRSS'].split()[0]) * 1024


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('localhost', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """Server('--model', 'm=FILE', ...): one on a loopback port that the system chose. It asks for keys if told auth=True, or by
    key= a key of the file that --keys names. Ended by close(), which lets it drain, or on leaving the context, at once."""

    def __init__(self, *args, auth=False, key=None, env=None, wait=True, user=None, wrapper=()):
        command = [SPARK, 'serve', '--listen', 'tcp:127.0.0.1:0', *map(str, args)]
        if not auth and not key:
            command += ['--no-auth']
        if user:
            command = ['setpriv', '--reuid', str(user), '--regid', str(user), '--clear-groups', *command]
        command = [*wrapper, *command]
        self.key = key
        models = [a.split('=')[0] for a, before in zip(args[1:], args) if before == '--model'] or ['demo']
        self.model = models[0]
        self.log_file = tempfile.NamedTemporaryFile(prefix='spark-serve-', suffix='.log')
        self.process = subprocess.Popen(command, stderr=self.log_file, stdin=subprocess.DEVNULL, env={**CLEAN, **(env or {})})
        try:
            if wait:
                self.wait_ready()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log_file.close()

    def close(self):
        """Lets it drain and end; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(40)
        self.__exit__()
        return self.process.returncode

    def log(self):
        return pathlib.Path(self.log_file.name).read_text(errors='replace')

    def wait_log(self, pattern, seconds=20):
        """Waits until the log says so; the match."""
        return wait_until(lambda: re.search(pattern, self.log()), seconds, self.log)

    @property
    def port(self):
        """Told by the log once it listens: the first of its addresses."""
        if not hasattr(self, '_port'):
            self.wait_log(r'(?m)^spark: listening on .*$')
            self._port = ports(self.log(), '127.0.0.1')[0]
        return self._port

    @property
    def base(self):
        return f'http://127.0.0.1:{self.port}'

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f'serve ended with {self.process.returncode}:\n{self.log()}')
            with contextlib.suppress(OSError):
                if 'listening on' in self.log() and self.get('/health/ready')[0] == 200:
                    return
            time.sleep(0.01)
        raise AssertionError(f'serve is not ready after {seconds} s:\n{self.log()}')

    def connect(self, timeout=120):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, connection=None):
        """(status, headers, bytes)."""
        c = connection or self.connect()
        h = {'Content-Type': 'application/json', **({'Authorization': f'Bearer {self.key}'} if self.key else {}), **(headers or {})}
        c.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, h)
        r = c.getresponse()
        data = r.read()
        if not connection:
            c.close()
        return r.status, r.headers, data

    def get(self, path, **kw):
        status, _, data = self.ask('GET', path, **kw)
        return status, data

    def post(self, path, body, **kw):
        """(status, parsed JSON)."""
        status, _, data = self.ask('POST', path, body, **kw)
        return status, json.loads(data)

    def complete(self, prompt='Once upon a time', **fields):
        """The text of a completion; fails unless it is answered by 200."""
        status, data = self.post('/v1/completions', {'model': self.model, 'prompt': prompt, 'max_tokens': 24, 'seed': 7, **fields})
        if status != 200:
            raise AssertionError(f'{status}: {data}\n{self.log()}')
        return data['choices'][0]['text']

    def stream(self, wait=True, **fields):
        """(connection, response) of a stream that was begun; wait=False: that was asked for."""
        c = self.connect()
        c.request('POST', '/v1/completions', json.dumps({'model': self.model, 'prompt': 'Once upon a time', 'seed': 7, 'stream': True, **fields}),
                  {'Content-Type': 'application/json', **({'Authorization': f'Bearer {self.key}'} if self.key else {})})
        return c, c.getresponse() if wait else None

    def metric(self, name, **labels):
        text = self.get('/metrics')[1].decode()
        want = ','.join(f'{k}="{v}"' for k, v in labels.items())
        m = re.search(r'^%s%s (\S+)$' % (re.escape(name), re.escape('{%s}' % want) if want else ''), text, re.M)
        if not m:
            raise AssertionError(f'no {name}{labels} in\n{text}')
        return float(m[1])

    def wait_metric(self, value, name, seconds=20, **labels):
        wait_until(lambda: self.metric(name, **labels) == value, seconds, lambda: f'{name}{labels} is {self.metric(name, **labels)}, not {value}\n{self.log()}')

    def cells(self):
        """Name ('front', 'engine NAME') to pids, as they are now."""
        found = {}
        for pid in processes(self.process.pid)[1:]:
            with contextlib.suppress(OSError):
                m = re.match(r'spark-cell (.*?) role=', pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().replace(b'\0', b' ').decode())
                if m:
                    found.setdefault(m[1], []).append(pid)
        return found

    def hold(self, name):
        """Lets a cell stand still until it is ended. It is stopped again and again: a continue meant for the whole group of processes, as
        shells send them, would let it go on."""
        pid = self.cells()[name][0]

        def has_ended():
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError:
                return True
        wait_until(has_ended, why=lambda: f'{name} still stands: {pathlib.Path(f"/proc/{pid}/stat").read_text()}\n{self.log()}')

    def kill(self, name):
        os.kill(self.cells()[name][0], signal.SIGKILL)

    def signal(self, number):
        self.process.send_signal(number)

    def descriptors(self):
        """Open descriptors of warden and cells, by name."""
        pids = {'warden': [self.process.pid], **self.cells()}
        return {name: len(os.listdir(f'/proc/{p[0]}/fd')) for name, p in pids.items()}


def in_parallel(n, work):
    """Runs work(i) in n threads; the results, or the first exception."""
    results, wrong = [None] * n, []

    def one(i):
        try:
            results[i] = work(i)
        except BaseException as e:
            wrong.append(e)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if wrong:
        raise wrong[0]
    return results
