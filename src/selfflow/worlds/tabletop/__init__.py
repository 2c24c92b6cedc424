"""Tabletop: a small world of pictures, video, sound, text and actions whose truth can be checked.

    from selfflow.worlds.tabletop.check import score_text
    from selfflow.worlds.tabletop.tasks import example

    still = example("still", seed=17)                   # .picture uint8 (64, 64, 3), .text true of it
    score = score_text(still.picture, still.text)       # .value == 1.0, .faults == ()

Each module is one idea; import from it. Pictures, language and checkers need numpy and Pillow; `physics`, `motion` and
`robot` need pymunk and gymnasium (extra `world`). Nothing needs torch.
"""
