"""Numbers that others have printed, and our own beside them."""

from __future__ import annotations

from normbench.published.beside import Beside, Line, beside
from normbench.published.tables import TABLES, Printed, Row, Table

__all__ = ["TABLES", "Beside", "Line", "Printed", "Row", "Table", "beside"]
