"""Who is asking: every look-up and every write of a sale is one tenant's, and no tenant is assumed."""

from __future__ import annotations

from dataclasses import dataclass

from salesintel_dagster.domain.errors import SaleRefused, TenantMismatch
from salesintel_dagster.domain.sale import TENANT_PATTERN, shown


@dataclass(frozen=True, slots=True)
class CallerContext:
    """The caller's tenant, as its authentication (or its operator) named it. There is no default on purpose.

    Raises SaleRefused where the tenant breaks `TENANT_PATTERN`.
    """

    tenant: str

    def __post_init__(self) -> None:
        """Refuse what breaks a rule."""
        if not isinstance(self.tenant, str) or not TENANT_PATTERN.fullmatch(self.tenant):
            raise SaleRefused("tenant", shown(self.tenant), f"a tenant matches {TENANT_PATTERN.pattern}")

    def require(self, tenant: str) -> None:
        """Raise TenantMismatch where a record is another tenant's."""
        if tenant != self.tenant:
            raise TenantMismatch(f"the caller is tenant {self.tenant}, the sale is another tenant's")
