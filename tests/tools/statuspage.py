"""Statuspage, as its specification has it: bare lists, numbered pages, an incident with all its updates."""

from __future__ import annotations

from typing import Any

from tests.tools.fake import Asked, Document, Fake, Gone, Route

PAGE = "kctbh9vrtdwd"


class Statuspage(Fake):
    scheme = "OAuth "

    def __init__(self) -> None:
        super().__init__()
        page, one = rf"/v1/pages/{PAGE}", r"([^/]+)"
        self.get(page, lambda _: self.table("page")[PAGE])
        for name in ("component-groups", "components", "incident_templates", "metrics", "page_access_users"):
            self.get(f"{page}/{name}", self.route(name))
        self.get(f"{page}/page_access_groups", self.route("page_access_groups"))
        self.get(f"{page}/metrics_providers", lambda _: list(self.table("metrics_providers").values()))
        self.get(f"{page}/incidents", self.route("incidents", size="limit"))
        self.get(f"{page}/subscribers", self.route("subscribers", size="limit", first=0))
        self.get(f"{page}/subscribers/unsubscribed", self.route("unsubscribed"))
        self.get(f"{page}/status_embed_config", lambda _: self.table("embed")[PAGE])
        self.get(f"{page}/incidents/{one}/postmortem", lambda asked: self.table("postmortems")[asked.match[1]])
        self.get(f"{page}/incidents/{one}/subscribers", self.incident_subscribers)

    def route(self, name: str, size: str = "per_page", first: int = 1) -> Route:
        return lambda asked: self.page(asked, list(self.table(name).values()), size, first)

    def page(self, asked: Asked, found: list[Document], size: str, first: int) -> Any:
        number, limit = int(asked.query.get("page", str(first))), min(100, int(asked.query.get(size, "100")))
        start = max(0, number - first) * limit
        return found[start : start + limit]

    def incident_subscribers(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("incidents"):
            raise Gone
        return self.page(asked, list(self.table(f"subscribers/{asked.match[1]}").values()), "per_page", 1)


def fill(fake: Statuspage) -> None:
    """A page with more subscribers than one answer holds."""
    fake.table("page")[PAGE] = {"id": PAGE, "name": "Acme", "subdomain": "acme", "updated_at": "2026-01-01T00:00:00Z"}
    fake.table("embed")[PAGE] = {"page_id": PAGE, "position": "bottom-left"}
    for n in range(120):
        fake.table("subscribers")[f"s{n:03}"] = {"id": f"s{n:03}", "mode": "email", "email": f"c{n}@customer.example"}
    for name in ("component-groups", "incident_templates", "metrics", "metrics_providers", "unsubscribed"):
        fake.table(name)["1"] = {"id": f"{name}-1", "name": name}
    for name in ("page_access_users", "page_access_groups"):
        fake.table(name)["1"] = {"id": f"{name}-1", "name": name}
    for n in range(3):
        fake.table("components")[str(n)] = {"id": f"comp{n}", "name": f"API {n}", "status": "operational"}
        update = {"id": f"u{n}", "status": "investigating", "body": "We are looking into it."}
        fake.table("incidents")[f"inc{n}"] = {
            "id": f"inc{n}",
            "name": f"Errors in the API {n}",
            "updated_at": f"2026-01-0{n + 1}T00:00:00.123Z",
            "incident_updates": [update],
        }
        fake.table(f"subscribers/inc{n}")["1"] = {"id": f"is{n}", "email": "one@customer.example"}
    fake.table("postmortems")["inc0"] = {
        "preview_key": "k",
        "body": "What happened",
        "updated_at": "2026-01-05T00:00:00Z",
    }
