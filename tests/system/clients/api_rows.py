"""Runs the rows of the shared requests.jsonl against a server: each is a request, the statuses allowed and checks on the answer.

Used by test_serve_clients.py; alone: python3 api_rows.py FILE BASE CHAT-MODEL [KEY]. One line a row, then `N passed, N failed, N due`.
"""
import json, pathlib, re, sys, urllib.error, urllib.request

# The issues that bring what some rows ask, by their subjects; and those rows: name -> issue. A row here that passes all the same is a
# failure: it must leave the list.
TOOLS, ENCODERS = 'Tools and structured answers', 'ONNX and encoders'
DUE = {
    'json object': TOOLS, 'json schema': TOOLS, 'tools required': TOOLS, 'tools none': TOOLS,
    'embedding': ENCODERS, 'embedding list': ENCODERS, 'embedding base64': ENCODERS, 'embedding empty list': ENCODERS,
}
TYPES = {'string': lambda v: isinstance(v, str), 'integer': lambda v: isinstance(v, int) and not isinstance(v, bool),
         'number': lambda v: isinstance(v, (int, float)) and not isinstance(v, bool), 'boolean': lambda v: isinstance(v, bool),
         'array': lambda v: isinstance(v, list), 'object': lambda v: isinstance(v, dict), 'null': lambda v: v is None}
MISSING = object()


def at(value, path):
    """What stands at a path like choices.0.message.content; MISSING if nothing does."""
    for step in path.split('.') if path else []:
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return MISSING
    return value


def size(value):
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else len(value)


def parsed(text, kind):
    try:
        return TYPES[kind](json.loads(text))
    except (TypeError, ValueError):
        return False


def conforms(text, schema):
    """The little of JSON Schema that the rows ask: type and required."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return False
    return TYPES[schema.get('type', 'object')](value) and all(k in value for k in schema.get('required', []))


def stopped(answer):
    return at(answer, 'choices.0.finish_reason') == 'stop'


def is_type(v, want, _):
    return v is not MISSING and any(TYPES[t](v) for t in (want if isinstance(want, list) else [want]))


OPS = {
    'eq': lambda v, want, _: v is not MISSING and v == want,
    'in': lambda v, want, _: v is not MISSING and v in want,
    'type': is_type,
    'len': lambda v, want, _: isinstance(v, (str, list, dict)) and len(v) == want,
    'min': lambda v, want, _: v is not MISSING and v is not None and size(v) >= want,
    'max': lambda v, want, _: v is not MISSING and v is not None and size(v) <= want,
    'matches': lambda v, want, _: isinstance(v, str) and re.search(want, v) is not None,
    'absent': lambda v, want, _: v is MISSING or v is None or v == [],
    'sum': lambda v, want, answer: v is not MISSING and v == sum(at(answer, p) for p in want),
    'json': lambda v, want, _: isinstance(v, str) and parsed(v, want),
    'json_if_stop': lambda v, want, answer: not stopped(answer) or parsed(v, want),
    'schema_if_stop': lambda v, want, answer: not stopped(answer) or conforms(v, want),
    'eq_path': lambda v, want, answer: v is not MISSING and v == at(answer, want),
    'not_contains': lambda v, want, _: isinstance(v, str) and want not in v,
}


def events(text):
    """The data of each server-sent event."""
    return ['\n'.join(line[5:].removeprefix(' ') for line in block.split('\n') if line.startswith('data:'))
            for block in text.replace('\r\n', '\n').split('\n\n') if 'data:' in block]


def wrong_stream(text, content_type, want):
    """What is wrong with a stream, or None."""
    found = events(text)
    if not content_type.startswith('text/event-stream'):
        return f'Content-Type is {content_type}'
    if not found or found[-1] != want['last']:
        return f'the last event is {found[-1:]}'
    chunks = [json.loads(e) for e in found[:-1]]
    if not chunks or any(c.get('object') != want['object'] for c in chunks):
        return f"not every object is {want['object']}"
    if len({c['id'] for c in chunks}) != 1:
        return 'several ids'
    if want.get('usage_chunk') and not (chunks[-1]['choices'] == [] and chunks[-1]['usage']['total_tokens'] > 0):
        return 'no usage chunk before the end'
    if not want.get('usage_chunk') and any(c.get('usage') for c in chunks):
        return 'usage that nobody asked for'
    return None


def send(row, base, chat, key):
    """(status, Content-Type, text)"""
    body = row.get('raw')
    if 'body' in row:
        body = json.dumps({k: chat if v == '@chat' else v for k, v in row['body'].items()})
    headers = {'Content-Type': 'application/json', **({'Authorization': f'Bearer {key}'} if key else {}), **row.get('headers', {})}
    request = urllib.request.Request(base + row['path'], method=row['method'], data=None if body is None else body.encode(),
                                     headers={k: v for k, v in headers.items() if v is not None})
    try:
        with urllib.request.urlopen(request, timeout=120) as r:
            return r.status, r.headers.get('Content-Type', ''), r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers.get('Content-Type', ''), e.read().decode()


def problems(row, status, content_type, text):
    if status not in row['status']:
        return [f"status {status} where {row['status']} is allowed: {text[:200]}"]
    found, answer = [], None
    for path, op, want in row['check']:
        if op == 'sse':
            wrong = wrong_stream(text, content_type, want)
            found += [wrong] if wrong else []
            continue
        if answer is None:
            try:
                answer = json.loads(text)
            except ValueError:
                return [f'no JSON: {text[:200]}']
        try:
            good = OPS[op](at(answer, path), want, answer)
        except TypeError:
            good = False
        if not good:
            value = at(answer, path)
            found.append(f"{path} {op} {json.dumps(want)}: {'missing' if value is MISSING else json.dumps(value)[:200]}")
    return found


def run_row(row, base, chat, key):
    """What is wrong, as texts; a row with `repeat` and `same` must give the same there each time."""
    found, seen = [], []
    for _ in range(row.get('repeat', 1)):
        answer = send(row, base, chat, key)
        found += problems(row, *answer)
        if 'same' in row and not found:
            seen.append(at(json.loads(answer[2]), row['same']))
    if any(s != seen[0] for s in seen):
        found.append(f"{row['same']} differs: {seen}")
    return found


def run(file, base, chat, key=None, due=DUE):
    """(passed, failures as lines, due as lines). Rows that need a key are left to a run with one."""
    passed, failed, waiting = 0, [], []
    for line in pathlib.Path(file).read_text().splitlines():
        row = json.loads(line)
        if row.get('needs') == 'api key' and not key:
            continue
        try:
            wrong = run_row(row, base, chat, key)
        except (OSError, ValueError, KeyError, IndexError) as e:
            wrong = [f'{type(e).__name__}: {e}']
        if row['name'] in due:
            (waiting if wrong else failed).append(f"{row['name']}: due with the issue '{due[row['name']]}'" + ('' if wrong else ', and passes: take it off the list'))
        elif wrong:
            failed.append(f"{row['name']}: {'; '.join(wrong)}")
        else:
            passed += 1
    return passed, failed, waiting


def main():
    passed, failed, waiting = run(*sys.argv[1:5])
    print('\n'.join([f'due {w}' for w in waiting] + [f'FAILED {f}' for f in failed] + [f'{passed} passed, {len(failed)} failed, {len(waiting)} due']))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
