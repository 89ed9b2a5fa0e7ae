"""Build the site of the documentation: `make docs`, or python -m scripts.build_site [FOLDER].

The pages stand in build/site-source as they stand in the repository, so that their links hold in both. A page of each
scheme is made of what docs/catalogue.md is made of, and of the scheme's file; the reference is the docstrings'. A link
that leads nowhere fails the build. The browser fetches nothing from elsewhere.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from scripts import build_catalogue

import addnorm
from addnorm import schemes

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
API = "# API\n\nThe public names: `import addnorm`, then `addnorm.NAME`.\n"
PALETTE = (("default", "light", "dark"), ("slate", "dark", "light"))


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
    (docs / "api.md").write_text(API + "".join(f"\n::: {name}\n" for name in public()))


def on_the_site(text: str) -> str:
    """Links to folders and plain texts lead to their pages; an anchor of MkDocs has no two hyphens in a row."""
    for old, new in RENAMED.items():
        text = re.sub(rf"\]\(((?:\.\./)*){old}\)", rf"](\1{new})", text)
    return re.sub(r"\]\([^)\s]*#[^)\s]*\)", lambda link: link[0].replace("--", "-"), text)


def write_schemes(docs: Path) -> None:
    """The catalogue's table, and a page of each scheme."""
    names = schemes.names()
    table = re.sub(r"\]\(#([\w-]+)\)", r"](schemes/\1.md)", "\n".join(build_catalogue.table(names)))
    (docs / "catalogue.md").write_text(build_catalogue.HEAD.format(count=len(names)) + "\n" + table + "\n")
    (docs / "schemes").mkdir()
    for name in names:
        (docs / "schemes" / f"{name}.md").write_text(scheme_page(name), encoding="utf-8")


def scheme_page(name: str) -> str:
    """Equation, diagram, oracles, certificate, claims, and the file."""
    text = build_catalogue.section(name).replace(f"## {name}", f"# {name}").replace("](diagrams/", "](../diagrams/")
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


def configuration(target: Path) -> dict:
    """MkDocs' settings."""
    palette = [
        {
            "media": f"(prefers-color-scheme: {mode})",
            "scheme": scheme,
            "primary": "indigo",
            "toggle": {"icon": "material/brightness-6", "name": f"Switch to {other}"},
        }
        for scheme, mode, other in PALETTE
    ]
    options = {"show_root_heading": True, "show_source": False, "docstring_options": {"warnings": False}}
    return {
        "site_name": "addnorm",
        "docs_dir": "pages",
        "site_dir": str(target),
        "use_directory_urls": False,
        "nav": nav(),
        # Fonts of the system: a font from elsewhere would be a request.
        "theme": {
            "name": "material",
            "font": False,
            "palette": palette,
            "features": ["content.code.copy", "navigation.tabs", "navigation.top", "toc.follow", "navigation.prune"],
        },
        "plugins": [
            "search",
            {"mkdocstrings": {"handlers": {"python": {"paths": [str(ROOT / "src")], "options": options}}}},
        ],
        "markdown_extensions": ["tables", "admonition", "pymdownx.highlight", "pymdownx.superfences", {"toc": {}}],
        "validation": {"links": {"not_found": "warn", "anchors": "warn", "unrecognized_links": "warn"}},
    }


def main(target: Path) -> int:
    """Stage the pages and have MkDocs build them, strictly."""
    stage()
    file = SOURCE / "mkdocs.yml"  # JSON is YAML
    file.write_text(json.dumps(configuration(target.resolve()), indent=1, ensure_ascii=False), encoding="utf-8")
    # Not --quiet: what is not logged is not counted, and a broken link would pass.
    return subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "-f", file]).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"))
