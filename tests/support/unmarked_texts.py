"""Finds texts of templates and scripts that a person reads and that no catalogue has, since they are not marked."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from jinja2 import Environment, nodes

LOOKED_UP = frozenset({"_", "gettext", "ngettext", "pgettext"})
_READ = frozenset({"title", "alt", "aria-label", "aria-roledescription", "placeholder"})
_UNREAD = frozenset({"script", "style", "code", "pre", "kbd", "svg"})
_SAME_EVERYWHERE = re.compile(
    r"\b(Artseek|CSV|Parquet|LSH|SHA-256|XMP|IPTC|EXIF|AP|P|k|id|px|ms|s|UTC|https)\b|\b(P|AP|recall)@k?|ak_"
)
_WORD = re.compile(r"[^\W\d_]")
_SENTENCE = re.compile(r"[^\W\d_]{2,},? [^\W\d_]{2,}")


def unmarked_in_template(source: str) -> list[str]:
    """Return the texts of a template that are shown and not looked up, those of its attributes among them."""
    tree = Environment(extensions=["jinja2.ext.i18n"], autoescape=True).parse(source)
    parser = _Texts()
    parser.feed("".join(_shown(tree)))
    parser.close()
    found = [text for text in parser.texts if _is_text(text)]
    return found + [text for text in _given(tree) if _SENTENCE.search(text)]


class _Texts(HTMLParser):
    """Collects what is read: text between tags, and some attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unread += tag in _UNREAD
        self.texts += [text or "" for name, text in attrs if name in _READ]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._unread -= tag in _UNREAD

    def handle_endtag(self, tag: str) -> None:
        self._unread -= tag in _UNREAD

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.texts.append(data)


_ATTRIBUTE = re.compile(r"[\w-]+=\"[^\"]*\"")  # of a tag elsewhere: a macro writes it


def _is_text(text: str) -> bool:
    return _WORD.search(_SAME_EVERYWHERE.sub("", _ATTRIBUTE.sub("", text))) is not None


def _shown(node: nodes.Node) -> Iterator[str]:
    """Yield what a template writes by itself, in its order; values that come to it are left out."""
    if isinstance(node, nodes.Output):
        for part in node.nodes:
            yield from _constants(part)
        return
    for child in node.iter_child_nodes():
        yield from _shown(child)


def _constants(part: nodes.Node) -> Iterator[str]:
    match part:
        case nodes.TemplateData():
            yield part.data
        case nodes.Const():
            yield str(part.value)
        case nodes.CondExpr():
            yield from _constants(part.expr1)
            yield " "
            yield from _constants(part.expr2) if part.expr2 else ()
        case nodes.Or() | nodes.And():
            yield from _constants(part.left)
            yield from _constants(part.right)
        case nodes.Concat():
            for node in part.nodes:
                yield from _constants(node)


def _given(node: nodes.Node) -> Iterator[str]:
    """Yield the texts that a template gives to macros and puts into variables."""
    if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in LOOKED_UP:
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from _given(child)


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_LITERAL = re.compile(r'"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`')
_CALL = re.compile(r"\b(?:gettext|ngettext)\(")
_VALUE = re.compile(r"\$\{[^}]*\}")


def unmarked_in_script(source: str) -> list[str]:
    """Return the literals of a script that read like a sentence and are not looked up."""
    without = _without_calls(re.sub(r"(?<![\"'`:])//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL))
    texts = (_VALUE.sub("", literal) for literal in _LITERAL.findall(without))
    return [text for text in texts if _SENTENCE.search(text) and not _is_markup(text)]


def _is_markup(text: str) -> bool:
    """Return whether a literal is a selector or a condition of CSS, or the name of a status of HTTP."""
    return re.search(r"[\[\]#>=]|prefers-|^.[.#]|^.(?:\w+, )+\w+.$|^.(?:[A-Z]\w+ ?)+.$", text) is not None


def _without_calls(source: str) -> str:
    """Return a script without the calls that look texts up."""
    kept, place = [], 0
    while match := _CALL.search(source, place):
        kept.append(source[place : match.start()])
        depth, place = 1, match.end()
        while depth:
            literal = _LITERAL.match(source, place)
            place = literal.end() if literal else place + 1
            depth += 0 if literal else {"(": 1, ")": -1}.get(source[place - 1], 0)
    return "".join([*kept, source[place:]])
