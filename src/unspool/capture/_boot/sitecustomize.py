# Runs at the start of every Python below `unspool run`, whatever its version: the syntax is that of Python 2.7 and 3.
# Nothing of ours may raise, print to stdout, or keep another sitecustomize from running.
import os
import sys


def _chain():
    """Run the sitecustomize this one hides, as if we were not here; what it raises is reported by `site` as ever."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in sys.path:
        if os.path.abspath(folder or os.curdir) == here:
            continue
        path = os.path.join(folder or os.curdir, "sitecustomize.py")
        package = os.path.join(folder or os.curdir, "sitecustomize", "__init__.py")
        for found, folders in ((package, [os.path.dirname(package)]), (path, None)):
            if os.path.isfile(found):
                _load(found, folders)
                return


def _load(path, folders):
    if sys.version_info[0] == 2:
        import imp

        del sys.modules["sitecustomize"]
        imp.load_source("sitecustomize", path)
        return
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("sitecustomize", path, submodule_search_locations=folders)
    module = module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def _say(text):
    try:
        sys.stderr.write("unspool: " + text + "\n")
    except Exception:
        pass


def _unrecorded(why, advice=""):
    """The program cannot be recorded and runs all the same; but one that shall be served must not run for real."""
    if '"rerun":' in os.environ.get("UNSPOOL_RUN", ""):
        _say(why + ". The program was stopped, because a rerun must not run for real." + advice)
        os._exit(3)
    _say(why + ". The program runs unrecorded." + advice)


def _serve(name, folder):
    """Let this interpreter import one package from unspool's own installation, after its own packages."""
    from importlib.machinery import PathFinder

    class Finder(object):
        @staticmethod
        def find_spec(fullname, path=None, target=None):
            if fullname != name:
                return None
            return PathFinder.find_spec(fullname, [folder])

        @staticmethod
        def invalidate_caches():
            PathFinder.invalidate_caches()

    sys.meta_path.append(Finder)
    return Finder


def _arm():
    if not os.environ.get("UNSPOOL_RUN"):
        return
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.dirname(os.path.dirname(os.path.dirname(here)))
    version = "%d.%d" % sys.version_info[:2]
    if sys.version_info < (3, 11):
        _unrecorded("%s is Python %s; recording needs 3.11 or newer" % (sys.executable, version))
        return
    loaded = frozenset(sys.modules)
    finders = [_serve("unspool", root)]
    for folder in filter(None, os.environ.get("UNSPOOL_MSGSPEC", "").split(os.pathsep)):
        finders.append(_serve("msgspec", folder))
    try:
        import msgspec  # noqa: F401
    except Exception:
        # `import msgspec` shall fail for the program as it would without us.
        for finder in finders[1:]:
            sys.meta_path.remove(finder)
        _unrecorded(
            "%s (Python %s) cannot load msgspec, which recording needs" % (sys.executable, version),
            " Install it there: %s -m pip install msgspec" % sys.executable,
        )
        return
    from unspool.capture.boot import arm_from_environment

    arm_from_environment(loaded)


try:
    _arm()
except Exception:
    _unrecorded("could not start recording: %s" % (sys.exc_info()[1],))
_chain()
