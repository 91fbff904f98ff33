"""Your own photos for your own sales: copied below the image host's folder, chosen by name, category or hash."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from salesintel_dagster.domain.errors import SourceSchemaMismatch

FOLDER = "own"
"""Below the image host's folder."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(slots=True)
class Photos:
    """The photos by name and by category, and how often each way of choosing one was taken."""

    base_url: str
    names: tuple[str, ...] = ()
    by_category: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    joined: Counter[str] = field(default_factory=Counter)

    def url(self, name: str) -> str:
        """Return where the image host serves a photo; one that is not there is served as a 404 and so told."""
        return f"{self.base_url.rstrip('/')}/{FOLDER}/{quote(name)}"

    def chosen_url(self, category: str | None, product_id: str | None) -> str | None:
        """Return a photo of the sale's category, or any, always the same for a product: an invented join."""
        of_category = self.by_category.get((category or "").lower())
        names = of_category or self.names
        if not names:
            return None
        self.joined["category" if of_category else "hash"] += 1
        digest = hashlib.sha256((product_id or "").encode(errors="surrogateescape")).digest()
        return self.url(names[int.from_bytes(digest[:8]) % len(names)])

    @property
    def invented(self) -> str | None:
        """The sentence that says what was made up, or None where nothing was."""
        if not self.joined:
            return None
        return (
            "Which photo belongs to which sale is INVENTED: the sales and the photos do not know each other. "
            f"{self.joined['category']} sales got a photo of their own category, {self.joined['hash']} any photo "
            "by a hash of the product id; price and photo of a row say nothing about each other."
        )


def copied_photos(source: Path | None, images_folder: Path, base_url: str) -> Photos:
    """Copy the photos of `source` (or of `source/images`) that are not there yet, and list them.

    Categories come from an `images.csv` (columns image, category) beside the photos or in the folder above.
    Raises SourceSchemaMismatch for a folder without photos, OSError.
    """
    if source is None:
        return Photos(base_url)
    folder = source / "images" if (source / "images").is_dir() else source
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise SourceSchemaMismatch(f"{source.name}: no .jpg or .png file in this folder")
    target = images_folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for file in files:
        copy = target / file.name
        if not copy.exists() or copy.stat().st_size != file.stat().st_size:
            shutil.copyfile(file, copy)
    names = tuple(file.name for file in files)
    return Photos(base_url, names, _by_category(folder, frozenset(names)))


def _by_category(folder: Path, names: frozenset[str]) -> dict[str, tuple[str, ...]]:
    lists = [place / "images.csv" for place in (folder, folder.parent)]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        return {}
    grouped: dict[str, list[str]] = {}
    with found.open(newline="", encoding="utf-8-sig") as lines:
        for row in csv.DictReader(lines):
            if row.get("image") in names and row.get("category"):
                grouped.setdefault(row["category"].strip().lower(), []).append(row["image"])
    return {category: tuple(sorted(images)) for category, images in grouped.items()}
