"""A headless browser for tests, driven by WebDriver (HTTP and JSON) without a library."""
import base64, http.client, json, os, re, shutil, signal, subprocess, time, unittest

DRIVER, CHROMIUM = shutil.which('chromedriver'), shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
needs_browser = unittest.skipUnless(DRIVER and CHROMIUM, 'no chromium with its driver: tools/install-deps check brings them')
ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'
ENTER, ESCAPE = '\ue007', '\ue00c'


class Browser:
    def __init__(self, width=1360, height=900):
        self.process = subprocess.Popen([DRIVER, '--port=0'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
        self.session = None
        try:
            self.port = self._port()
            arguments = ['--headless=new', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update']
            options = {'binary': CHROMIUM, 'args': arguments + (['--no-sandbox'] if os.geteuid() == 0 else [])}
            wanted = {'browserName': 'chrome', 'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'}, 'goog:chromeOptions': options}
            self.session = '/session/' + self._call('POST', '/session', {'capabilities': {'alwaysMatch': wanted}})['sessionId']
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def _port(self):
        for line in self.process.stdout:
            if m := re.search(r'successfully on port (\d+)', line):
                return int(m[1])
        raise AssertionError(f'{DRIVER} ended with {self.process.wait()}')

    def _call(self, method, path, body=None):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=120)
        c.request(method, path, None if body is None else json.dumps(body), {'Content-Type': 'application/json'})
        value = json.loads(c.getresponse().read())['value']
        c.close()
        if isinstance(value, dict) and 'error' in value:
            raise AssertionError(f'{path}: {value["error"]}: {value["message"]}')
        return value

    def _post(self, path, **body):
        return self._call('POST', self.session + path, body)

    def close(self):
        try:
            if self.session:
                self._call('DELETE', self.session)
        finally:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process.stdout.close()

    # ---- What a person does ----

    def open(self, url):
        self._post('/url', url=url)

    def find(self, css):
        return self._post('/element', using='css selector', value=css)[ELEMENT]

    def click(self, css):
        self._post(f'/element/{self.find(css)}/click')

    def type(self, css, text):
        self._post(f'/element/{self.find(css)}/value', text=text)

    def set(self, css, text):
        self._post(f'/element/{self.find(css)}/clear')
        if text:
            self.type(css, text)

    def choose(self, css, value):
        self.js('const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event("change"))', css, value)

    def size(self, width, height):
        self.cdp('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name):
        self.cdp('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': name}])

    # ---- What the test sees ----

    def js(self, code, *arguments):
        return self._post('/execute/sync', script=code, args=arguments)

    def promise(self, code):
        """The value of a promise."""
        return self._post('/execute/async', script=f'const done = arguments[0]; ({code}).then(done, e => done("failed: " + e))', args=[])

    def cdp(self, command, **parameters):
        return self._post('/goog/cdp/execute', cmd=command, params=parameters)

    def text(self, css):
        """What is rendered of it."""
        return self.js('const e = document.querySelector(arguments[0]); return e && e.getClientRects().length ? e.innerText : ""', css)

    def wait(self, what, code, *arguments, seconds=30):
        """The first true value of a script."""
        end = time.monotonic() + seconds
        while not (value := self.js(code, *arguments)):
            if time.monotonic() > end:
                raise AssertionError(f'{what}: not within {seconds} s; the page shows:\n{self.js("return document.body.innerText")}\nlog: {self.log()}')
            time.sleep(0.05)
        return value

    def log(self):
        """Messages of the console, of the network and of policies since the last call."""
        return self._post('/se/log', type='browser')

    def requests(self):
        """URLs that pages asked for since the last call."""
        events = [json.loads(e['message'])['message'] for e in self._post('/se/log', type='performance')]
        return [e['params']['request']['url'] for e in events if e['method'] == 'Network.requestWillBeSent']

    def screenshot(self, path):
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self._call('GET', self.session + '/screenshot')))
