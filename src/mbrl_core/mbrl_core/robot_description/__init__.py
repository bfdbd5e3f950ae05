# SPDX-License-Identifier: Apache-2.0
"""One robot in three formats: URDF, SDF and Gazebo's files are written from the compiled MJCF, and compared with it.

`export.files_of` writes, `check.check` compares numbers, `dart.compare` compares motion.
"""
