"""The checker of the shared requests, against answers that are right and wrong on purpose: it must be able to fail."""
import http.server, json, pathlib, sys, tempfile, threading, unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / 'clients'))
import api_rows

ANSWER = {'object': 'x', 'n': 3, 'list': [1, 2], 'text': 'ab1', 'null': None, 'usage': {'a': 1, 'b': 2, 'total': 3},
          'choices': [{'finish_reason': 'stop', 'message': {'content': '{"name": "a"}'}}]}
CONTENT = 'choices.0.message.content'
STREAM = ('data: {"object": "o", "id": "1", "choices": [{}]}\n\ndata: {"object": "o", "id": "1", "choices": [], "usage": {"total_tokens": 2}}\n\n'
          'data: [DONE]\n\n')
RIGHT = [('object', 'eq', 'x'), ('n', 'in', [2, 3]), ('n', 'type', 'integer'), ('list', 'len', 2), ('n', 'min', 3), ('text', 'min', 3), ('n', 'max', 3),
         ('text', 'matches', '^[a-z]+[0-9]$'), ('null', 'absent', None), ('nothing', 'absent', None), ('usage.total', 'sum', ['usage.a', 'usage.b']),
         (CONTENT, 'json', 'object'), (CONTENT, 'json_if_stop', 'object'), (CONTENT, 'schema_if_stop', {'type': 'object', 'required': ['name']}),
         ('list.0', 'eq_path', 'usage.a'), ('text', 'not_contains', 'z')]
WRONG = [('object', 'eq', 'y'), ('missing', 'eq', None), ('n', 'in', [2]), ('n', 'type', 'string'), ('missing', 'type', 'string'), ('list', 'len', 1), ('n', 'min', 4),
         ('missing', 'min', 0), ('text', 'max', 2), ('text', 'matches', '^b'), ('n', 'matches', '3'), ('n', 'absent', None), ('usage.total', 'sum', ['usage.a', 'usage.a']),
         ('usage.total', 'sum', ['usage.a', 'missing']), ('text', 'json', 'object'), (CONTENT, 'json', 'array'), (CONTENT, 'json_if_stop', 'array'),
         (CONTENT, 'schema_if_stop', {'type': 'object', 'required': ['age']}), ('list.0', 'eq_path', 'list.1'), ('missing', 'eq_path', 'gone'), ('text', 'not_contains', 'b')]


class Fake(http.server.BaseHTTPRequestHandler):
    count = 0

    def log_message(self, *_):
        pass

    def do_POST(self):
        Fake.count += 1
        self.rfile.read(int(self.headers.get('Content-Length', 0)))
        body = json.dumps({'text': 'same' if self.path == '/same' else f'{Fake.count}', 'key': self.headers.get('Authorization')}).encode()
        self.send_response(200 if self.path != '/gone' else 410)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Ops(unittest.TestCase):
    def problems(self, check, text=None, status=200, content_type='application/json'):
        return api_rows.problems({'status': [200], 'check': [check]}, status, content_type, json.dumps(ANSWER) if text is None else text)

    def test_every_op_passes_what_is_right(self):
        for check in RIGHT:
            self.assertEqual(self.problems(check), [], check)

    def test_every_op_fails_what_is_wrong(self):
        for check in WRONG:
            self.assertNotEqual(self.problems(check), [], check)
        self.assertEqual({op for _, op, _ in WRONG}, set(api_rows.OPS))

    def test_an_answer_that_was_cut_by_length_may_be_no_json(self):
        cut = json.dumps({**ANSWER, 'choices': [{'finish_reason': 'length', 'message': {'content': '{"na'}}]})
        self.assertEqual(self.problems((CONTENT, 'json_if_stop', 'object'), cut), [])
        self.assertEqual(self.problems((CONTENT, 'schema_if_stop', {'required': ['a']}), cut), [])

    def test_a_status_that_is_not_allowed_fails(self):
        self.assertNotEqual(self.problems(('object', 'eq', 'x'), status=201), [])

    def test_streams(self):
        def wrong(text, kind='text/event-stream', **want):
            return self.problems(('', 'sse', {'last': '[DONE]', 'object': 'o', **want}), text, content_type=kind)
        self.assertEqual(wrong(STREAM, usage_chunk=True), [])
        self.assertNotEqual(wrong(STREAM), [])
        self.assertNotEqual(wrong(STREAM, 'application/json', usage_chunk=True), [])
        self.assertNotEqual(wrong(STREAM.replace('data: [DONE]\n\n', ''), usage_chunk=True), [])
        self.assertNotEqual(wrong(STREAM.replace('"o"', '"p"', 1), usage_chunk=True), [])
        self.assertNotEqual(wrong(STREAM.replace('"id": "1"', '"id": "2"', 1), usage_chunk=True), [])
        self.assertNotEqual(wrong(STREAM.replace('"choices": []', '"choices": [{}]'), usage_chunk=True), [])


class Rows(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Fake)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def run_rows(self, *rows, key='k', due=()):
        with tempfile.NamedTemporaryFile('w', suffix='.jsonl') as f:
            f.write('\n'.join(json.dumps({'method': 'POST', 'status': [200], 'check': [], 'body': {}, **r}) for r in rows))
            f.flush()
            return api_rows.run(f.name, f'http://127.0.0.1:{self.server.server_port}', 'm', key, dict.fromkeys(due, 'later'))

    def test_repeated_rows_must_say_the_same(self):
        self.assertEqual(self.run_rows({'name': 'a', 'path': '/same', 'repeat': 2, 'same': 'text'})[0], 1)
        self.assertEqual(len(self.run_rows({'name': 'a', 'path': '/other', 'repeat': 2, 'same': 'text'})[1]), 1)

    def test_a_header_of_null_is_left_out_and_rows_for_keys_need_one(self):
        row = {'name': 'a', 'path': '/same', 'needs': 'api key', 'headers': {'Authorization': None}, 'check': [['key', 'absent', None]]}
        self.assertEqual(self.run_rows(row)[:2], (1, []))
        self.assertEqual(self.run_rows(row, key=None), (0, [], []))
        self.assertEqual(self.run_rows({**row, 'headers': {}, 'check': [['key', 'eq', 'Bearer k']]})[:2], (1, []))

    def test_a_due_row_waits_while_it_fails_and_is_a_failure_once_it_passes(self):
        self.assertEqual(self.run_rows({'name': 'a', 'path': '/gone'}, due=['a']), (0, [], ["a: due with the issue 'later'"]))
        self.assertEqual(len(self.run_rows({'name': 'a', 'path': '/same'}, due=['a'])[1]), 1)


if __name__ == '__main__':
    unittest.main()
