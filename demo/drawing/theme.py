"""Colours of the pictures, by the names that dashboards use; two themes, each readable on its own background.

Pure data.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as `#rrggbb`: of the page, of panels, of words, by name, and of series without a colour of their own."""

    name: str
    page: str
    panel: str
    border: str
    grid: str
    text: str
    muted: str
    named: Mapping[str, str]
    series: tuple[str, ...]

    def colour(self, name: str) -> str:
        """Return a named colour; the plain one of text for a name that is not known."""
        return self.named.get(name, self.text)


DARK = Theme(
    name="dark",
    page="#111217",
    panel="#181b1f",
    border="#2a2d34",
    grid="#2c3038",
    text="#e3e4e8",
    muted="#9a9fae",
    named={
        "green": "#73bf69",
        "yellow": "#f2cc0c",
        "blue": "#5794f2",
        "light-blue": "#8ab8ff",
        "orange": "#ff9830",
        "red": "#f2495c",
        "semi-dark-red": "#e02f44",
        "dark-red": "#c4162a",
        "purple": "#b877d9",
        "semi-dark-purple": "#a352cc",
    },
    series=(
        *("#5794f2", "#3fc8b4", "#b877d9", "#f2cc0c", "#ff7eb6", "#73bf69", "#ff9830", "#8ab8ff"),
        *("#c0a16b", "#e0b4ff", "#9bd770", "#6e9fff", "#f2a6a0", "#4fb0c6", "#d6d65c", "#a3a8b8"),
    ),
)
LIGHT = Theme(
    name="light",
    page="#f4f5f7",
    panel="#ffffff",
    border="#dfe1e6",
    grid="#e8eaee",
    text="#24292f",
    muted="#5f6673",
    named={
        "green": "#2e8b3d",
        "yellow": "#b58900",
        "blue": "#2563c9",
        "light-blue": "#5b9bef",
        "orange": "#d9730d",
        "red": "#d0263c",
        "semi-dark-red": "#b01f33",
        "dark-red": "#8f1427",
        "purple": "#8a46b8",
        "semi-dark-purple": "#713a99",
    },
    series=(
        *("#2563c9", "#0e8f7e", "#8a46b8", "#b58900", "#c93a7b", "#2e8b3d", "#d9730d", "#5b9bef"),
        *("#7d6230", "#a970d6", "#5f9b2d", "#4361b8", "#c0645c", "#1f7f99", "#8c8c1d", "#6b7180"),
    ),
)
