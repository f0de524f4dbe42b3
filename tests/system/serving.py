"""A running `spark serve` for tests: starts it, waits until it is ready, asks it, looks at its processes, ends it."""
import http.client, json, os, pathlib, re, signal, socket, subprocess, tempfile, threading, time

from support import SPARK


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__('localhost', timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """Server('--model', 'm=FILE', ...): one on a free loopback port, without keys unless told otherwise."""

    def __init__(self, *args, auth=False, env=None, wait=True, listen=True, user=None):
        self.port = free_port()
        command = [SPARK, 'serve', *map(str, args)]
        if listen:
            command += ['--listen', f'tcp:127.0.0.1:{self.port}']
        if not auth:
            command += ['--no-auth']
        if user:
            command = ['setpriv', '--reuid', str(user), '--regid', str(user), '--clear-groups', *command]
        self.key = None
        models = [a.split('=')[0] for a, before in zip(args[1:], args) if before == '--model'] or ['demo']
        self.model = models[0]
        self.log_file = tempfile.NamedTemporaryFile(prefix='spark-serve-', suffix='.log')
        self.process = subprocess.Popen(command, stderr=self.log_file, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})
        if wait:
            self.wait_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log_file.close()

    def log(self):
        return pathlib.Path(self.log_file.name).read_text()

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f'serve ended with {self.process.returncode}:\n{self.log()}')
            try:
                if self.get('/health/ready')[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
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
        end = time.monotonic() + seconds
        while self.metric(name, **labels) != value:
            if time.monotonic() > end:
                raise AssertionError(f'{name}{labels} is {self.metric(name, **labels)}, not {value}')
            time.sleep(0.02)

    def cells(self):
        """Name ('front', 'engine NAME') to pids, as they are now."""
        out = subprocess.run(['ps', '-eo', 'pid,ppid,args'], capture_output=True, text=True).stdout
        found = {}
        for line in out.splitlines()[1:]:
            pid, parent, args = line.split(None, 2)
            m = re.match(r'spark-cell (.*?) role=', args)
            if m and int(parent) == self.process.pid:
                found.setdefault(m[1], []).append(int(pid))
        return found

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
