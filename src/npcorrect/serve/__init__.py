"""The HTTP service: a page, jobs with events, OpenAI's pictures endpoint and A1111's.

``app`` answers, ``worker`` owns the session and draws, ``store`` keeps the jobs on disk between
them. Requests are checked before they become jobs; the loop's stream is passed on as it is.
"""
