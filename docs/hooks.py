"""Brings figures and files that pages link to outside `docs/` into the site, so that a page reads the same on both."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add every file that a page links to as `../PATH`."""
    root = Path(config.docs_dir).parent
    for page in Path(config.docs_dir).glob("*.md"):
        for path in OUTSIDE.findall(page.read_text(encoding="utf-8")):
            if files.get_file_from_path(path) is None:
                files.append(File.generated(config, path, abs_src_path=str(root / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let the links point at where the site has them."""
    return OUTSIDE.sub(r"](\1)", markdown)
