"""What the studio is made of: its own files only, each of one idea, nothing its content policy would refuse."""

import re
from pathlib import Path

STUDIO = Path(__file__).resolve().parents[1] / "src" / "selfflow" / "serve" / "studio"
FILES = sorted(p for p in STUDIO.iterdir() if p.is_file())
TEXTS = {p.name: p.read_text() for p in FILES}


def test_no_file_holds_too_much():
    assert not {name: n for name, text in TEXTS.items() if (n := len(text.splitlines())) > 550}


def test_nothing_comes_from_elsewhere():
    for name, text in TEXTS.items():
        found = re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"'`)]*", text)
        assert not [a for a in found if a != "http://www.w3.org/2000/svg"], name
        assert "@import" not in text, name
        assert "@font-face" not in text, name


def test_every_import_and_link_leads_to_a_file():
    names = set(TEXTS)
    used = {"index.html"}
    for name, text in TEXTS.items():
        if name.endswith(".js"):
            used |= (found := set(re.findall(r'from "\./([^"]+)"', text)))
            assert found <= names, name
            for symbols, source in re.findall(r'import \{([^}]*)\} from "\./([^"]+)"', text):
                for symbol in (s.split(" as ")[0].strip() for s in symbols.split(",") if s.strip()):
                    word = rf"(?<![\w$]){re.escape(symbol)}(?![\w$])"
                    assert re.search(rf"export [^;=(]*{word}", TEXTS[source]), f"{name} imports {symbol} of {source}"
                    assert len(re.findall(word, text)) > 1, f"{name} imports {symbol} and leaves it unused"
    used |= set(re.findall(r'(?:href|src)="/studio/([^"]+)"', TEXTS["index.html"]))
    assert used == names  # nothing missing, nothing dead


def test_the_page_holds_no_inline_script_or_style():
    page = TEXTS["index.html"]
    assert not re.findall(r"\son\w+=|\sstyle=|<style|<script(?![^>]* src=)", page)
    for name, text in TEXTS.items():
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), name


def test_every_id_that_is_asked_for_is_made():
    made = set(re.findall(r'id="([^"]+)"', TEXTS["index.html"]))
    for text in TEXTS.values():
        made |= set(re.findall(r'\bid: "([^"]+)"', text)) | set(re.findall(r'\.id = "([^"]+)"', text))
        made |= set(re.findall(r'\bscreen\("([^"]+)"', text))  # worlds.js makes its two by one function
    for name, text in TEXTS.items():
        assert set(re.findall(r'\$\("([^"]+)"\)', text)) <= made | {"dream-figure", "real-words"}, name


def test_nothing_is_exported_for_nobody():
    for name, text in TEXTS.items():
        for symbol in re.findall(r"export (?:async )?(?:function|const|let|class) ([\w$]+)", text):
            word = rf"(?<![\w$]){re.escape(symbol)}(?![\w$])"
            users = [n for n, t in TEXTS.items() if n != name and re.search(word, t)]
            assert users, f"{symbol} of {name}"
