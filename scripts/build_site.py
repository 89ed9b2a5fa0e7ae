"""Build the site of the documentation: `make docs`, or python -m scripts.build_site [FOLDER].

The pages stand in build/site-source as they stand in the repository, so that their links hold in both. A page of each
scheme is made of what docs/catalogue.md is made of, and of the scheme's file; the reference is the docstrings'.
Zensical builds it; scripts/check_site.py then fails what leads nowhere or would be fetched from elsewhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from scripts import build_catalogue, check_site

import addnorm
from addnorm import schemes
from addnorm.reports.mathml import equation_or_text
from addnorm.schemes._describe import describe

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site-source"
PAGES = ("README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "LOG.md")
# Pages of the repository that are folders or plain text there.
RENAMED = {"docs/decisions": "docs/decisions/README.md", "examples": "examples/README.md", "NOTICE": "NOTICE.md"}
HOW_TO = (
    "how-to-choose-a-scheme", "how-to-diagnose-a-model", "write-your-own-scheme", "write-your-own-task",
    "pretrained-weights", "large-data", "watch-a-run", "robust-training", "speed-and-memory", "starts",
    "efficient-attention", "gpu-kernels", "commands",
)  # fmt: skip
WIDE = "---\nhide: [toc]\n---\n\n"  # the column of the contents, for a table of six
API = "# API\n\nThe public names: `import addnorm`, then `addnorm.NAME`.\n"
# Three states, of which the browser remembers the chosen one: as the system has it, light, dark.
PALETTE = (
    ("", {}, "lucide/sun-moon", "light"),
    (": light", {"scheme": "default"}, "lucide/sun", "dark"),
    (": dark", {"scheme": "slate"}, "lucide/moon", "what the system has"),
)
# Chinese has no spaces: every character is a word, and a search for several finds them together.
SEPARATOR = r"[\s\-.,:;()\[\]`=/]+|(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])"
# A table's cells stand closer, so that six columns fit.
CSS = """
.md-grid { max-width: 76rem }
.md-typeset .figures { white-space: nowrap }
.md-typeset table:not([class]) th, .md-typeset table:not([class]) td { min-width: 0; padding: .45em .7em }
.md-typeset td code { word-break: normal }
"""


def stage() -> None:
    """Copy the pages, and write those that are generated."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    docs = SOURCE / "pages" / "docs"
    shutil.copytree(ROOT / "docs", docs)
    shutil.copytree(ROOT / "examples", SOURCE / "pages" / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "benchmarks" / "results", SOURCE / "pages" / "benchmarks" / "results")
    for name in PAGES:
        shutil.copy(ROOT / name, SOURCE / "pages" / name)
    for page in (SOURCE / "pages").rglob("*.md"):
        page.write_text(on_the_site(page.read_text(encoding="utf-8")), encoding="utf-8")
    (SOURCE / "pages" / "NOTICE.md").write_text(f"# Notice\n\n```text\n{(ROOT / 'NOTICE').read_text()}```\n")
    examples = SOURCE / "pages" / "examples"
    shown = [f"## {file.name}\n\n{fenced(file)}" for file in sorted((ROOT / "examples").glob("*.py"))]
    (examples / "README.md").write_text("\n".join(["# Examples\n", *shown]))
    decisions = [f"- [{title(file)}]({file.name})" for file in sorted((docs / "decisions").glob("*.md"))]
    (docs / "decisions" / "README.md").write_text("\n".join(["# Decisions\n", *decisions]) + "\n")
    write_schemes(docs)
    (SOURCE / "pages" / "site.css").write_text(CSS)
    (docs / "api.md").write_text(API + "".join(f"\n::: {name}\n" for name in public()))


def on_the_site(text: str) -> str:
    """Links to folders and plain texts lead to their pages; an anchor of the site has no two hyphens in a row."""
    for old, new in RENAMED.items():
        text = re.sub(rf"\]\(((?:\.\./)*){old}\)", rf"](\1{new})", text)
    return re.sub(r"\]\([^)\s]*#[^)\s]*\)", lambda link: link[0].replace("--", "-"), text)


def write_schemes(docs: Path) -> None:
    """The catalogue's table, and a page of each scheme."""
    names = schemes.names()
    table = re.sub(r"\]\(#([\w-]+)\)", r"](schemes/\1.md)", "\n".join(build_catalogue.table(names)))
    table = re.sub(r"\b\d(e-\d+)?, \d(e-\d+)?\b", r'<span class="figures">\g<0></span>', table)
    (docs / "catalogue.md").write_text(WIDE + build_catalogue.HEAD.format(count=len(names)) + "\n" + table + "\n")
    (docs / "schemes").mkdir()
    for name in names:
        (docs / "schemes" / f"{name}.md").write_text(scheme_page(name), encoding="utf-8")


def scheme_page(name: str) -> str:
    """Equation, diagram, oracles, certificate, claims, and the file."""
    text = build_catalogue.section(name).replace(f"## {name}", f"# {name}").replace("](diagrams/", "](../diagrams/")
    equation = describe(name).equation
    text = text.replace(f"```\n{equation}\n```", equation_or_text(equation))
    text = re.sub(r"^- (Oracles|Certificate|Claims):$", r"\n## \1\n", text.strip(), flags=re.MULTILINE)
    text = re.sub(r"^  - ", "- ", text, flags=re.MULTILINE)
    file = Path(sys.modules[schemes.get(name).__module__].__file__ or "")
    place = f"`src/addnorm/schemes/{file.name}`"
    return f"{text}\n{ships(name)}\n## Code\n\n{place}:\n\n{fenced(file)}"


def ships(name: str) -> str:
    """The implementations of others that compute the whole scheme, as far as it was held against them."""
    found = [
        one["oracle"]
        for one in build_catalogue.measured()[name]["oracles"]
        if (one["oracle"].startswith("torch.nn") or re.match(r"transformers \S+, ", one["oracle"]))
        and " without " not in one["oracle"]
        and not all(text.endswith("alone") for text in one["compared"])
    ]
    return f"\n## Where it ships\n\nAmong the oracles above: {'; '.join(found)}.\n" if found else ""


def fenced(file: Path) -> str:
    """A file of Python, as a block."""
    return f"````python\n{file.read_text(encoding='utf-8')}````\n"


def title(page: Path) -> str:
    """A page's first heading."""
    return page.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def public() -> list[str]:
    """The names of the reference."""
    return [f"addnorm.{name}" for name in addnorm.__all__ if name != "__version__"]


def nav() -> list[dict]:
    """What the menu shows."""
    pages = ROOT / "docs"
    tasks = [f"docs/tasks/{file.name}" for file in sorted((pages / "tasks").glob("*.md"))]
    decisions = [f"docs/decisions/{file.name}" for file in sorted((pages / "decisions").glob("*.md"))]
    return [
        {"Start": ["README.md", {"简体中文": "README.zh-CN.md"}]},
        {"Tutorial": ["docs/tutorial.md", "docs/tutorial.zh-CN.md"]},
        {"How to": [*(f"docs/{name}.md" for name in HOW_TO), {"Examples": "examples/README.md"}]},
        {"Tasks": ["docs/tasks.md", *tasks]},
        {"Schemes": ["docs/catalogue.md", *({name: f"docs/schemes/{name}.md"} for name in schemes.names())]},
        {"API": "docs/api.md"},
        {"Benchmarks": "docs/benchmarks.md"},
        {
            "Project": [
                "LOG.md",
                {"Decisions": ["docs/decisions/README.md", *decisions]},
                "CHANGELOG.md",
                "CONTRIBUTING.md",
                "NOTICE.md",
            ]
        },
    ]


def configuration() -> dict:
    """Zensical's settings, in the words of mkdocs.yml."""
    palette = [
        {"media": f"(prefers-color-scheme{mode})", **colours, "toggle": {"icon": icon, "name": f"Switch to {other}"}}
        for mode, colours, icon, other in PALETTE
    ]
    options = {"show_root_heading": True, "show_source": False, "docstring_options": {"warnings": False}}
    return {
        "site_name": "addnorm",
        "docs_dir": "pages",
        "site_dir": "site",
        "use_directory_urls": False,
        "nav": nav(),
        # Fonts of the system: a font from elsewhere would be a request.
        "theme": {
            "name": "material",
            "font": False,
            "palette": palette,
            "features": ["content.code.copy", "navigation.tabs", "navigation.top", "toc.follow", "navigation.prune"],
        },
        "extra_css": ["site.css"],
        "plugins": [
            {"search": {"separator": SEPARATOR}},
            {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT / "src")], "options": options}}}},
        ],
        "markdown_extensions": [
            "tables", "admonition", "attr_list", "pymdownx.highlight", "pymdownx.superfences", {"toc": {}},
        ],
    }  # fmt: skip


def main(target: Path) -> int:
    """Stage the pages, build them strictly, check what came of it, and put it in place of the site before."""
    if target.exists() and not (target / "404.html").exists() and any(target.iterdir()):
        print(f"{target} holds something else than a site; give an empty or a new folder.", file=sys.stderr)
        return 2
    stage()
    file = SOURCE / "mkdocs.yml"  # JSON is YAML
    file.write_text(json.dumps(configuration(), indent=1, ensure_ascii=False), encoding="utf-8")
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", file], cwd=SOURCE)
    if built.returncode:
        return built.returncode
    for fault in (faults := check_site.faults(SOURCE / "site")):
        print(fault, file=sys.stderr)
    if faults:
        return 1
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(SOURCE / "site", target)
    print(f"{target}: show it by python -m http.server --directory {target} (from a file, search does not work)")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"))
