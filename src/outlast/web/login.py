"""Logging in and out."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.web import accounts
from outlast.web.pages import back, render
from outlast.web.security import Form, Viewer, client_address, cookie_name, local
from outlast.web.services import services

router = APIRouter(include_in_schema=False)


@router.get("/login")
def show(request: Request, next: str = "/") -> HTMLResponse:  # noqa: A002 - the query's name
    return render(request, "login.html", None, next=local(next), problem="")


@router.post("/login")
def enter(request: Request, form: Form) -> Response:
    found = services(request)
    _same_origin(request)
    target = local(form.get("next", "/"))
    name = form.get("name", "").strip()
    # By address and by name: neither many names from one place nor one name from many places.
    counted = (f"address {client_address(request, found)}", f"name {name[:100]}")
    allowed = [found.login_rates.allow(one) for one in counted]  # both are counted, whatever the first says
    if not all(allowed):
        problem = "Too many attempts. Wait a minute."
        return render(request, "login.html", None, status_code=429, next=target, problem=problem)
    with found.database.read() as connection:
        stored = accounts.password_hash(connection, name)
    if not accounts.verified(stored, form.get("password", "")):
        problem = "The name or the password is wrong."
        return render(request, "login.html", None, status_code=403, next=target, problem=problem)
    for one in counted:
        found.login_rates.give_back(one)
    length_s = found.session_length.total_seconds()
    token = found.commits.wait_for(lambda connection: accounts.log_in(connection, name, length_s))
    answer = back(target)
    answer.set_cookie(
        cookie_name(found), token, max_age=int(length_s), path="/", secure=found.https, httponly=True, samesite="lax"
    )
    return answer


@router.post("/logout")
def leave(request: Request, visitor: Viewer) -> Response:
    found = services(request)
    token = request.cookies.get(cookie_name(found), "")
    found.commits.wait_for(lambda connection: accounts.log_out(connection, token))
    answer = back("/login")
    answer.delete_cookie(cookie_name(found), path="/", secure=found.https, httponly=True, samesite="lax")
    return answer


def _same_origin(request: Request) -> None:
    """No other site logs a browser in as somebody else: there is no session yet that a token could belong to."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "this form was sent from another site")
