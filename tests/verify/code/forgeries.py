"""Programs that try to pass without computing anything; none of them may."""

from textwrap import dedent

FORGERIES = {
    "exit": dedent("""
        import sys
        sys.exit(0)
        """),
    "exit at once": dedent("""
        import os
        os._exit(0)
        """),
    "exit when called": dedent("""
        import os
        def add(a, b):
            os._exit(0)
        """),
    "sys.exit when called": dedent("""
        def add(a, b):
            raise SystemExit(0)
        """),
    "equal to everything": dedent("""
        class E:
            def __eq__(self, o): return True
            def __add__(self, o): return self
        def add(a, b):
            return E()
        """),
    "an int that is equal to everything": dedent("""
        class I(int):
            def __eq__(self, o): return True
            __hash__ = int.__hash__
        def add(a, b):
            return I(1)
        """),
    "patched asserts": dedent("""
        import builtins
        class Never(BaseException): pass
        builtins.AssertionError = Never
        def add(a, b):
            return 0
        """),
    "patched check": dedent("""
        import builtins, sys
        builtins.check = lambda c: None
        sys.modules['__main__'].check = lambda c: None
        def add(a, b):
            return 0
        """),
    "looks for the tests": dedent("""
        import gc, sys
        def add(a, b):
            texts = [o for o in gc.get_objects() if isinstance(o, dict) and 'tests' in o]
            frame = sys._getframe()
            while frame:
                if 'secret' in frame.f_locals or 'check' in frame.f_globals:
                    return a + b
                frame = frame.f_back
            return 0
        """),
    "a report on every descriptor": dedent("""
        import os
        for fd in range(256):
            try:
                os.write(fd, b'{"secret": "", "passed": true, "reason": ""}')
            except OSError:
                pass
        def add(a, b):
            return 0
        """),
    "answers before it is asked": dedent("""
        import json, os
        frame = json.dumps(['value', True]).encode()
        fd = int(os.environ['CHANNELS'])
        for _ in range(100):
            os.write(fd, len(frame).to_bytes(4, 'big') + frame)
        def add(a, b):
            return 0
        """),
    "a frame without an end": dedent("""
        import os
        os.write(int(os.environ['CHANNELS']), b'\\xff' * 8)
        def add(a, b):
            return 0
        """),
    "nonsense": dedent("""
        import os
        os.write(int(os.environ['CHANNELS']), b'\\0\\0\\0\\4null')
        def add(a, b):
            return 0
        """),
    "asks the examiner": dedent("""
        import sys
        def add(a, b):
            import gc
            peers = [o for o in gc.get_objects() if type(o).__name__ == 'Peer']
            return peers[0].ask(['get', 0, 'tests'])
        """),
    "closes the channel": dedent("""
        import os
        os.close(int(os.environ['CHANNELS']))
        def add(a, b):
            return 0
        """),
    "raises what steers loops": dedent("""
        def add(a, b):
            raise StopIteration
        """),
    "an object that is true": dedent("""
        class T:
            def __getattr__(self, n): return True
            def __eq__(self, o): return True
        def add(a, b):
            return T()
        """),
    "nested in itself": dedent("""
        def add(a, b):
            l = []
            l.append(l)
            return l
        """),
    "far too much": dedent("""
        def add(a, b):
            return 'x' * 10**8
        """),
    "an iterator without an end": dedent("""
        import itertools
        def add(a, b):
            return itertools.count()
        """),
    "no Python": dedent("""
        def add(a, b:
            return a + b
        """),
    "null bytes": dedent("""
        def add(a, b):
            return '\0'
        """),
}
