"""Walks the GitLab stand-in with python-gitlab, a client that was written against the real thing.

Takes GITLAB_URL, GITLAB_TOKEN and RECEIVER_URL from the environment; any difference ends it with a traceback.
"""

import os

import gitlab
from gitlab.exceptions import GitlabCreateError, GitlabGetError, GitlabHttpError

gl = gitlab.Gitlab(os.environ["GITLAB_URL"], private_token=os.environ["GITLAB_TOKEN"], retry_transient_errors=False)


def auth():
    gl.auth()
    assert gl.user.username == "penstock", gl.user.username
    version, revision = gl.version()
    assert version == "19.1.0-ee" and revision, (version, revision)
    token = gl.personal_access_tokens.get("self")
    assert token.active and token.scopes == ["api"], token.attributes
    assert gl.users.list(username="ALICE")[0].username == "alice"
    try:
        gitlab.Gitlab(gl.url, private_token="wrong").auth()
    except gitlab.GitlabAuthenticationError as error:
        assert error.response_code == 401
    else:
        raise AssertionError("a wrong token was let in")


def code(project):
    assert project.path_with_namespace == "acme/api" and project.default_branch == "main"
    assert gl.projects.get(project.id).id == project.id
    main = project.branches.get("main")
    assert main.protected and main.default
    feature = project.branches.get("feature/one")
    assert not feature.protected and feature.commit["id"] != main.commit["id"]
    assert {branch.name for branch in project.branches.list(get_all=True)} == {"main", "feature/one"}
    rule = project.protectedbranches.get("main")
    assert [level["access_level"] for level in rule.push_access_levels] == [40]
    assert [rule.name for rule in project.protectedbranches.list()] == ["main"]
    assert project.tags.get("v1").commit["id"] == main.commit["id"]

    sha = feature.commit["id"]
    file = project.files.get("src/deep/new.rs", ref=sha)
    assert file.decode() == b"new\n" and file.commit_id == sha and len(file.blob_id) == 40
    assert project.files.raw("src/deep/new.rs", ref=sha) == b"new\n"
    assert project.repository_raw_blob(file.blob_id) == b"new\n"
    try:
        project.files.get("src/deep/new.rs", ref="main")
    except GitlabGetError as error:
        assert error.response_code == 404 and error.error_message == "404 File Not Found", error.error_message
    else:
        raise AssertionError("the file is not on main")

    tree = list(project.repository_tree(ref=sha, recursive=True, pagination="keyset", per_page=30, iterator=True))
    blobs = [row["path"] for row in tree if row["type"] == "blob"]
    assert len(blobs) == 122 and len(set(blobs)) == 122, len(blobs)
    assert [row["path"] for row in tree if row["type"] == "tree"] == ["many", "src", "src/deep"]
    top = project.repository_tree(ref=sha, get_all=True)
    assert [row["name"] for row in top] == ["many", "src", "README.md"], top
    by_offset = project.repository_tree(ref=sha, path="many", get_all=True)
    assert len(by_offset) == 120

    commits = project.commits.list(ref_name="feature/one", get_all=True)
    assert [commit.title for commit in commits][:2] == ["Second", "First"]
    short = project.commits.get(sha[:9])
    assert short.id == sha and short.parent_ids == [commits[1].id]
    assert {"type": "branch", "name": "feature/one"} in short.refs()
    assert len(short.diff()) == 1
    compared = project.repository_compare("main", "feature/one")
    assert len(compared["commits"]) == 2 and compared["commit"]["id"] == sha
    added = {diff["new_path"] for diff in compared["diffs"] if diff["new_file"]}
    assert "src/deep/new.rs" in added and len(compared["diffs"]) == 121
    base = project.repository_merge_base(["main", "feature/one"])
    assert base["id"] == main.commit["id"]
    return sha


def merge_requests(project, sha):
    request = project.mergerequests.get(1)
    assert request.sha == sha and request.state == "opened" and request.diff_refs["head_sha"] == sha
    found = project.mergerequests.list(source_branch="feature/one", state="opened", get_all=True)
    assert [one.iid for one in found] == [1]
    assert project.mergerequests.list(state="merged", get_all=True) == []
    assert len(request.changes()["changes"]) == 121
    assert [commit.title for commit in request.commits()] == ["Second", "First"]
    assert request.approvals.get().approvals_left == 0

    note = request.notes.create({"body": "hello <!-- marker -->"})
    assert note.author["username"] == "penstock" and not note.system
    note.body = "edited"
    note.save()
    assert request.notes.get(note.id).body == "edited"
    reply = request.discussions.create({"body": "a thread"})
    reply.notes.create({"body": "an answer"})
    assert [one["body"] for one in request.discussions.get(reply.id).attributes["notes"]] == ["a thread", "an answer"]
    note.delete()
    try:
        request.notes.get(note.id)
    except GitlabGetError as error:
        assert error.response_code == 404
    else:
        raise AssertionError("the note was deleted")
    for number in range(45):
        request.notes.create({"body": f"note {number}"})
    assert len(request.notes.list(get_all=True)) == 47
    page = request.notes.list(per_page=10, page=2, get_all=False)
    assert len(page) == 10

    commit = project.commits.get(sha)
    commit.comments.create({"note": "on the commit"})
    assert [comment.note for comment in commit.comments.list(get_all=True)] == ["on the commit"]


def statuses(project, sha):
    commit = project.commits.get(sha)
    first = commit.statuses.create({"state": "running", "name": "ci", "ref": "feature/one"})
    assert first.status == "running" and first.started_at
    try:
        commit.statuses.create({"state": "running", "name": "ci", "ref": "feature/one"})
    except GitlabCreateError as error:
        assert error.response_code == 400
        assert error.error_message.startswith("Cannot transition status via :run from :running"), error.error_message
    else:
        raise AssertionError("running twice is no transition")
    done = commit.statuses.create(
        {"state": "success", "name": "ci", "ref": "feature/one", "target_url": "http://127.0.0.1/run", "description": "ok"}
    )
    assert done.id == first.id and done.description == "ok"
    assert [(one.name, one.status) for one in commit.statuses.list(get_all=True)] == [("ci", "success")]
    assert project.mergerequests.get(1).head_pipeline["status"] == "success"
    assert project.commits.get(sha).last_pipeline["id"] == done.pipeline_id


def hooks(project):
    url = os.environ["RECEIVER_URL"]
    hook = project.hooks.create({"url": url, "push_events": True, "note_events": True, "token": "not shown"})
    assert hook.token_present and "token" not in hook.attributes
    assert [one.id for one in project.hooks.list(get_all=True)] == [hook.id]
    hook.merge_requests_events = True
    hook.save()
    assert project.hooks.get(hook.id).merge_requests_events
    hook.test("push_events")
    events = gl.http_list(f"/projects/{project.id}/hooks/{hook.id}/events", get_all=True)
    assert [event["response_status"] for event in events] == ["200"]
    assert events[0]["request_data"]["object_kind"] == "push"
    assert events[0]["request_headers"]["x-gitlab-token"] == "[REDACTED]"
    again = gl.http_post(f"/projects/{project.id}/hooks/{hook.id}/events/{events[0]['id']}/resend")
    assert again == {"response_status": 200}, again
    assert len(gl.http_list(f"/projects/{project.id}/hooks/{hook.id}/events", get_all=True)) == 2
    group = gl.groups.get("acme")
    assert group.hooks.list(get_all=True) == []
    return hook.id


def deploy_tokens(project):
    made = project.deploytokens.create({"name": "runs", "scopes": ["read_repository"], "expires_at": "2999-01-01T00:00:00Z"})
    assert made.token.startswith("gldt-") and made.username == f"gitlab+deploy-token-{made.id}"
    (listed,) = project.deploytokens.list(get_all=True)
    assert listed.name == "runs" and "token" not in listed.attributes and not listed.revoked
    assert project.deploytokens.get(made.id).scopes == ["read_repository"]
    made.delete()
    assert project.deploytokens.list(get_all=True, active=True) == []
    try:
        project.deploytokens.create({"name": "runs", "scopes": ["api"]})
    except GitlabCreateError as error:
        assert error.response_code == 400
    else:
        raise AssertionError("no deploy token is for the API")


def members(project):
    people = {member.username: member.access_level for member in project.members_all.list(get_all=True)}
    assert people["alice"] == 30 and people["penstock"] == 50, people
    alice = gl.users.list(username="alice")[0]
    assert project.members_all.get(alice.id).access_level == 30
    assert gl.groups.get("acme").members_all.get(alice.id).access_level == 30
    stranger = gl.users.list(username="stranger")[0]
    try:
        project.members_all.get(stranger.id)
    except GitlabGetError as error:
        assert error.response_code == 404
    else:
        raise AssertionError("a stranger is no member")


def pages():
    users = gl.users.list(iterator=True, per_page=50)
    assert users.total == 123 and users.total_pages == 3, users.total
    assert len({user.username for user in users}) == 123


def limits(project):
    # The stand-in was told to answer the next call of this path 429 with Retry-After: python-gitlab waits and calls again.
    assert project.protectedtags.list(get_all=True) == []
    # And then 429 of the same path to a client that does not.
    try:
        gl.http_get(f"/projects/{project.id}/protected_tags", obey_rate_limit=False)
    except GitlabHttpError as error:
        assert error.response_code == 429
    else:
        raise AssertionError("the second fault did not strike")


auth()
acme = gl.projects.get("acme/api")
head = code(acme)
merge_requests(acme, head)
statuses(acme, head)
hooks(acme)
deploy_tokens(acme)
members(acme)
pages()
limits(acme)
print("walked")
